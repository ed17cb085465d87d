"""`eicap run`: lm-eval's own `run`, without indexing its 14,000 built-in tasks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from eicap_tasks import preflight
from eicap_tasks.errors import EicapError, nearest

TASKS = Path(__file__).parent / "tasks"
"""The folder of our YAML files, for lm-eval's `--include_path`."""


def own_names() -> list[str]:
    """Return the sorted names of our tasks, groups and tags."""
    from lm_eval.tasks import TaskManager

    return sorted(TaskManager(include_path=str(TASKS), include_defaults=False).all_tasks)


def run(arguments: Sequence[str]) -> None:
    """Run lm-eval in this process.

    Tasks, options and own items are checked before a model is loaded. Where a name is not one of ours,
    the built-in tasks are indexed too, as `lm_eval run` does.

    Args:
        arguments: The arguments of `lm_eval run`, without the command's name.

    Raises:
        EicapError: A task, an option or an item file cannot be used.
    """
    import lm_eval.tasks
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    setup_logging()
    sys.argv = ["lm_eval", "run", *arguments]
    cli = HarnessCLI()
    parsed = cli.parse_args()
    wanted = [name for entry in parsed.tasks or [] for name in entry.split(",")]
    ours = own_names()
    others = [name for name in wanted if not any(fnmatchcase(own, name) for own in ours)]
    if wanted and not others:
        _check(wanted, parsed.metadata or {})
        folders = [str(TASKS), *([parsed.include_path] if parsed.include_path else [])]
        own_manager = partial(_manager, folders)
        lm_eval.tasks.TaskManager = own_manager
    try:
        cli.execute(parsed)
    except ValueError as error:
        if not str(error).startswith("Tasks not found") or isinstance(error, EicapError):
            raise
        hints = "".join(nearest(name, ours) for name in others)
        raise EicapError(f"--tasks: {error}, allowed: {', '.join(ours)}, or tasks of lm-eval{hints}") from error


def _manager(folders: list[str], *, metadata: Any = None, **kwargs: Any) -> Any:
    """Stand in for lm-eval's TaskManager: our folder and the user's, nothing else."""
    from lm_eval.tasks.manager import TaskManager

    return TaskManager(include_path=folders, include_defaults=False, metadata=metadata)


def _check(names: list[str], metadata: dict[str, Any]) -> None:
    """Load the tasks once before the model is, so that what is wrong with them costs no time."""
    preflight.check(metadata)
    manager = _manager([str(TASKS)], metadata=metadata)
    try:
        manager.load(manager.match_tasks(names))
    except ValueError as error:
        if isinstance(error, EicapError) or "Duplicate task" not in str(error):
            raise
        raise EicapError(
            f"--tasks: found {', '.join(names)}, which ask a task twice ({error}); allowed: names that do not overlap"
        ) from error
