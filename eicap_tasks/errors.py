"""The one kind of error that a user of this package can cause, and how it is shown."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
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


def exit_without_traceback() -> None:
    """Make an uncaught `EicapError` end the process with its message and exit status 2.

    For command lines that are not ours (`lm_eval`): other exceptions are shown as before.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(value, EicapError):
            print(value, file=sys.stderr)
            sys.exit(EXIT_CODE)
        previous(kind, value, traceback)

    sys.excepthook = hook
