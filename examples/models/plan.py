"""What to run: the configuration files of models, their tasks, and which of them are finished."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from lm_eval._cli import HarnessCLI
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.evaluator_utils import get_sample_size
from lm_eval.tasks import TaskManager

from eicap_tasks import preflight, results
from eicap_tasks.errors import EicapError, nearest
from eicap_tasks.runner import TASKS
from eicap_tasks.signature import short_hash

HERE = Path(__file__).parent
SETTINGS = (
    "model", "model_args", "device", "num_fewshot", "system_instruction", "apply_chat_template", "fewshot_as_multiturn",
    "gen_kwargs", "seed", "trust_remote_code", "metadata",
)  # fmt: skip
"""What an answer depends on. Tasks, limits and batch sizes are not among it: other answers stay good."""


@dataclass(frozen=True)
class Model:
    """One configuration to run.

    Attributes:
        name: Its name: "hf/qwen2.5-7b", or the name of the user's own file without its ending.
        file: The configuration file.
        config: What lm-eval makes of it and of the arguments on the command line, which win.
        folder: Where its answers and results are kept. The last part is a hash of the settings: lm-eval's cache knows
            requests only, so that another model or dtype would be given the answers of this one.
    """

    name: str
    file: Path
    config: Any
    folder: Path

    @property
    def names(self) -> list[str]:
        """What it is asked: names of tasks, groups and tags."""
        tasks = self.config.tasks
        return [name for entry in ([tasks] if isinstance(tasks, str) else tasks) for name in str(entry).split(",")]

    @property
    def options(self) -> str:
        """The options of this package, as JSON."""
        return json.dumps(self.config.metadata.get("eicap") or {}, sort_keys=True)

    @property
    def tasks(self) -> dict[str, Any]:
        """The tasks by name, those of groups and tags one by one."""
        found = load_tasks(tuple(self.names), self.options)
        for task in found.values():
            task.set_config(key="num_fewshot", value=self.config.num_fewshot or 0)
            task.set_fewshot_seed(seed=self.config.seed[3] if self.config.seed else None)
        return found

    def probes(self, task: Any) -> int:
        """Return how many probes of a task are asked."""
        limit = get_sample_size(task, self.config.limit)
        return len(task.eval_docs) if limit is None else min(limit, len(task.eval_docs))

    def finished(self) -> Path | None:
        """Return the latest result file with all tasks, all probes and today's items; None if there is none."""
        wanted = {name: (self.probes(task), *_items(task)) for name, task in self.tasks.items()}
        for file in sorted(self.folder.rglob("results_*.json"), key=lambda file: file.name, reverse=True):
            try:
                run = results.load([file])[0]
            except EicapError:  # the process was ended while it wrote
                continue
            found = {
                t.name: (t.asked, t.signature.get("version"), t.signature.get("items")) for t in run.tasks.values()
            }
            if wanted.items() <= found.items():
                return file
        return None


def _items(task: Any) -> tuple[str, str]:
    return str(task.config.metadata["version"]), str(task.config.metadata["items_sha256"])[:12]


def models(names: Sequence[str], out: Path, others: Sequence[str]) -> list[Model]:
    """Read the configurations of a list of models, each once, and check all of them before the first is run.

    Args:
        names: Names of files here without their ending, or paths of the user's own files.
        out: Folder of all results.
        others: Further arguments of `eicap run`.

    Raises:
        EicapError: A name is unknown, or a file or an argument cannot be used.
    """
    files: dict[str, Path] = {}
    for given in names:
        name, file = _find(given)
        if files.setdefault(name, file) != file:
            raise EicapError(f"{file}: found the name {name!r} of {files[name]} again, expected files of other names")
    made = []
    for name, file in files.items():
        config = _read(file, others)
        key = short_hash({setting: getattr(config, setting) for setting in SETTINGS})
        made.append(Model(name, file, config, out / name / key))
        preflight.check(config.metadata)
        try:
            made[-1].tasks  # noqa: B018
        except EicapError as error:
            raise EicapError(f"{file}: {error}") from error
    return made


def _find(given: str) -> tuple[str, Path]:
    shipped = {file.relative_to(HERE).with_suffix("").as_posix(): file for file in sorted(HERE.glob("*/*.yaml"))}
    if given in shipped:
        return given, shipped[given]
    file = Path(given)
    if not (file.is_file() and file.suffix in (".yaml", ".yml")):
        listed = ", ".join(shipped)
        raise EicapError(f"MODEL: found {given!r}, allowed: {listed}, or a YAML file{nearest(given, shipped)}")
    of_ours = [name for name, path in shipped.items() if path.resolve() == file.resolve()]
    return (of_ours[0], shipped[of_ours[0]]) if of_ours else (file.stem, file)


def _read(file: Path, others: Sequence[str]) -> Any:
    """Merge a file with the arguments of the command line, as lm-eval does."""
    allowed = [field.name for field in fields(EvaluatorConfig)]
    sys.argv = ["lm_eval", "run", "--config", str(file), *others, "--output_path", "results"]
    try:
        parsed = HarnessCLI().parse_args()
        for key, value in EvaluatorConfig.load_yaml_config(file).items():
            if key not in allowed:
                raise EicapError(f"{file}: found {key!r}, allowed: {', '.join(allowed)}{nearest(str(key), allowed)}")
            if key in ("model_args", "metadata") and not isinstance(value, dict | str | None):
                raise EicapError(f"{file}: {key}: found {value!r}, expected names with values")
        with contextlib.redirect_stdout(io.StringIO()):  # lm-eval prints what it merged
            config = EvaluatorConfig.from_cli(parsed)
    except EicapError:
        raise
    except (TypeError, ValueError) as error:
        raise EicapError(f"{file}: {error}, expected the arguments of lm_eval run") from error
    if config.samples:
        raise EicapError(f"{file}: found samples, expected all probes, or the first ones with --limit")
    return config


@lru_cache
def load_tasks(names: tuple[str, ...], options: str) -> dict[str, Any]:
    """Load tasks, once for all models that are asked the same.

    Args:
        names: Names of tasks, groups and tags.
        options: The options of this package, as JSON.

    Raises:
        EicapError: A name is unknown, or two names ask a task twice.
    """
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"eicap": json.loads(options)})
    if not names:
        raise EicapError("tasks: found none, expected tasks of this package, such as eicap")
    for name in names:
        if not manager.match_tasks([name]):
            hint = nearest(name, manager.all_tasks)
            raise EicapError(f"tasks: found {name!r}, expected tasks of this package, such as eicap{hint}")
    try:
        return dict(manager.load(manager.match_tasks(list(names)))["tasks"])
    except ValueError as error:
        raise EicapError(f"tasks: found {', '.join(names)} ({error}), expected names that do not overlap") from error
