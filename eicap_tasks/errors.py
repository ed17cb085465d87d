"""The one kind of error that a user of this package can cause, and how it is shown."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from json import JSONDecodeError
from types import TracebackType

EXIT_CODE = 2
"""Exit status of a command that ends because of the user's input."""


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


def explain(error: BaseException) -> str | None:
    """Say in a line what a user can mend: an `EicapError`, or trouble with the server of a model.

    Args:
        error: What ended a command.

    Returns:
        The message; None where the error is of another kind.
    """
    if isinstance(error, EicapError):
        return str(error)
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
