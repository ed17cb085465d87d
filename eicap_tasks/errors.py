"""The one kind of error that a user of this package can cause, and how it is shown."""

from __future__ import annotations

import difflib
import sys
import unicodedata
from collections.abc import Iterable
from json import JSONDecodeError
from types import TracebackType

EXIT_CODE = 2
"""Exit status of a command that ends because of the user's input."""
NAME_LENGTH = 200
"""A name that a stranger gave is cut to so many characters."""


class EicapError(ValueError):
    """Input that cannot be used. The message says where, what was found and what is allowed."""


def nearest(found: str, allowed: Iterable[str]) -> str:
    """Name the allowed value that `found` most resembles, as a clause to append to a message.

    Args:
        found: The misspelt value.
        allowed: The values it may have.

    Returns:
        `"; did you mean 'x'?"`, or an empty string where nothing is near.
    """
    match = difflib.get_close_matches(found, list(allowed), n=1, cutoff=0.7)
    return f"; did you mean {match[0]!r}?" if match else ""


def safe(text: object, length: int | None = NAME_LENGTH) -> str:
    """Make a text of a stranger fit to be printed: one line, no control or direction characters, not too long.

    Args:
        text: The text.
        length: Where it is cut; None cuts nothing.
    """
    shown = "".join("�" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char for char in str(text))
    return shown if length is None or len(shown) <= length else f"{shown[: length - 1]}…"


def explain(error: BaseException) -> str | None:
    """Say in a line what a user can mend: an `EicapError`, or trouble with the server of a model.

    Args:
        error: What ended a command.

    Returns:
        The message, each of its lines as `safe` makes it: names of files are in it; None where the error is of another
        kind.
    """
    if isinstance(error, EicapError):
        return "\n".join(safe(line, None) for line in str(error).split("\n"))
    trace, places = error.__traceback__, set()
    while trace:
        places.add(trace.tb_frame.f_globals.get("__name__"))
        trace = trace.tb_next
    by_client = type(error).__module__.split(".")[0] in ("requests", "aiohttp")
    if "lm_eval.models.api_models" not in places or not (
        by_client or isinstance(error, TimeoutError | JSONDecodeError)
    ):
        return None
    return (
        f"the model's server: found {error!r}, expected the answer of an OpenAI-compatible API. "
        "With --use_cache PATH, what was answered is kept: run the same command again once the server is well"
    )


def exit_without_traceback() -> None:
    """Make an uncaught error that `explain` can explain end the process with its message and exit status 2.

    For command lines that are not ours (`lm_eval`): other exceptions are shown as before.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
        message = explain(value)
        if message is not None:
            print(message, file=sys.stderr)
            sys.exit(EXIT_CODE)
        previous(kind, value, traceback)

    sys.excepthook = hook
