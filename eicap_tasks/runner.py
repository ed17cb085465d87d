"""`eicap run`: lm-eval's own `run`, without indexing its 14,000 built-in tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import partial, wraps
from pathlib import Path
from typing import Any

from eicap_tasks import preflight
from eicap_tasks.errors import EicapError, nearest
from eicap_tasks.examples import check_count
from eicap_tasks.signature import signatures

TASKS = Path(__file__).parent / "tasks"
"""The folder of our YAML files, for lm-eval's `--include_path`."""


def own_names() -> list[str]:
    """Return the sorted names of our tasks, groups and tags."""
    from lm_eval.tasks import TaskManager

    return sorted(TaskManager(include_path=str(TASKS), include_defaults=False).all_tasks)


def run(arguments: Sequence[str]) -> None:
    """Run lm-eval in this process.

    Tasks, options and own items are checked before a model is loaded. Where a name is not one of ours, or a pattern
    may mean others too, the built-in tasks are indexed as well, as `lm_eval run` does.

    Args:
        arguments: The arguments of `lm_eval run`, without the command's name.

    Raises:
        EicapError: A task, an option or an item file cannot be used.
    """
    import lm_eval
    import lm_eval.tasks
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    setup_logging()
    sys.argv = ["lm_eval", "run", *arguments]
    cli = HarnessCLI()
    parsed, given = _parse(cli)
    tasks = given.get("tasks") or []
    wanted = [name for entry in ([tasks] if isinstance(tasks, str) else tasks) for name in str(entry).split(",")]
    if not wanted:
        raise EicapError("--tasks: found none, expected one or more, such as eicap_en; eicap run --help has an example")
    ours = own_names()
    others = [name for name in wanted if not (name.startswith("eicap") and any(fnmatchcase(own, name) for own in ours))]
    evaluate, manager = lm_eval.simple_evaluate, lm_eval.tasks.TaskManager
    if not others:
        metadata = given["model_args"] | given["metadata"]  # as lm-eval does
        _check(wanted, metadata, given.get("num_fewshot") or 0)
    folders = [str(TASKS), *([given["include_path"]] if given.get("include_path") else [])]
    lm_eval.tasks.TaskManager = partial(_manager, folders, bool(others))
    signed: list[str] = []
    lm_eval.simple_evaluate = _remembering(evaluate, signed)
    try:
        cli.execute(parsed)
        if signed:
            print("\n".join(["Signatures:", *signed]), flush=True)
    except ValueError as error:
        if not str(error).startswith("Tasks not found") or isinstance(error, EicapError):
            raise
        hints = "".join(nearest(name, ours) for name in others)
        raise EicapError(f"--tasks: {error}, allowed: {', '.join(ours)}, or tasks of lm-eval{hints}") from error
    finally:
        lm_eval.simple_evaluate, lm_eval.tasks.TaskManager = evaluate, manager


def _remembering(evaluate: Callable[..., Any], signed: list[str]) -> Callable[..., Any]:
    """Wrap lm-eval's `simple_evaluate` to keep the signatures of its results."""

    @wraps(evaluate)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        results = evaluate(*args, **kwargs)
        signed.extend(signatures(results or {}))
        return results

    return wrapped


def _manager(folders: list[str], built_in: bool, *, metadata: Any = None, **kwargs: Any) -> Any:
    """Stand in for lm-eval's TaskManager: our folder and the user's, and lm-eval's own tasks where they are wanted."""
    from lm_eval.tasks.manager import TaskManager

    return TaskManager(include_path=folders, include_defaults=built_in, metadata=metadata)


def _parse(cli: Any) -> tuple[Any, dict[str, Any]]:
    """Parse the command line; return it as lm-eval's namespace, and merged over the file that `--config` names."""
    from lm_eval.config.evaluate_config import EvaluatorConfig

    try:
        parsed = cli.parse_args()
    except ValueError as error:
        example = """--metadata '{"eicap": {"data": "my_items.jsonl"}}'"""
        raise EicapError(f"arguments: {error}; expected JSON or key=value, as in {example}") from error
    try:
        from_file = EvaluatorConfig.load_yaml_config(parsed.config) if parsed.config else {}
    except (FileNotFoundError, TypeError, ValueError) as error:
        raise EicapError(f"--config: {error}, expected a YAML file with the arguments of lm_eval run") from error
    known = [field.name for field in fields(EvaluatorConfig)]
    for key in from_file:
        if key not in known:
            hint = nearest(str(key), known)
            raise EicapError(f"{parsed.config}: found {key!r}, allowed: {', '.join(known)}{hint}")
    given = from_file | {name: value for name, value in vars(parsed).items() if value or value == 0}  # as lm-eval does
    for key in ("model_args", "metadata"):
        given[key] = _values(given.get(key), f"{parsed.config}: {key}")
    if (given.get("log_samples") or given.get("predict_only")) and not given.get("output_path"):
        raise EicapError("--output_path: found none, expected a folder for the samples that are to be logged")
    return parsed, given


def _values(given: Any, where: str) -> dict[str, Any]:
    """Read names with values as lm-eval does: a mapping, or "name=value,name=value"."""
    from lm_eval.utils import simple_parse_args_string

    if isinstance(given, str):
        try:
            given = simple_parse_args_string(given)
        except ValueError as error:
            raise EicapError(f"{where}: {error}, expected names with values") from error
    if given is not None and not isinstance(given, dict):
        raise EicapError(f"{where}: found {given!r}, expected names with values")
    return dict(given or {})


def _check(names: list[str], metadata: dict[str, Any], num_fewshot: int) -> None:
    """Load the tasks once before the model is, so that what is wrong with them costs no time."""
    preflight.check(metadata)
    manager = _manager([str(TASKS)], False, metadata=metadata)
    try:
        loaded = manager.load(manager.match_tasks(names))["tasks"]
        for name, task in loaded.items():
            check_count(num_fewshot, len(task.dataset["dev"]), name)
    except ValueError as error:
        if isinstance(error, EicapError) or "Duplicate task" not in str(error):
            raise
        raise EicapError(
            f"--tasks: found {', '.join(names)}, which ask a task twice ({error}); allowed: names that do not overlap"
        ) from error
