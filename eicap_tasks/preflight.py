"""Checks that a run can make before a model is loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from eicap_tasks import items, options
from eicap_tasks.errors import exit_without_traceback


def check(metadata: Mapping[str, Any]) -> None:
    """Check the options of a run and the user's own items, if it names some.

    On lm-eval's command line, an error then ends the process with exit status 2, without a traceback.

    Args:
        metadata: lm-eval's metadata.

    Raises:
        EicapError: Something cannot be used; the message lists every problem.
    """
    if "lm_eval._cli.run" in sys.modules:
        exit_without_traceback()
    chosen = options.parse(metadata)
    if chosen.data:
        items.load(chosen.data)
