"""Files for the Hugging Face hub: a model's scores as `.eval_results/*.yaml`, and as the older model-index block."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any, Final

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml, parse_eval_result_entries
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from eicap_tasks import items
from eicap_tasks.errors import EicapError
from eicap_tasks.results import SOFTWARE, Run, TaskRun
from eicap_tasks.signature import short_hash
from eicap_tasks.statistics import cluster_mean
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

MODEL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


DATASET: Final = "eicap/eicap"
"""Where the items that ship with this package are meant to be on the hub."""


def _own_items(run: Run) -> str | None:
    """Return a task that was asked other items than the shipped ones."""
    own = {lang: items.digest(items.load(items.shipped("test", lang)))[:12] for lang in LANGUAGES}
    return next((t.name for t in run.tasks.values() if t.signature.get("items") != own[t.lang]), None)


def check_id(option: str, found: str) -> str:
    """Return an id of the hub, or refuse it.

    Raises:
        EicapError: It is not of the form ORG/NAME.
    """
    if not MODEL_ID.fullmatch(found) or ".." in found or "--" in found or len(found) > 96:
        raise EicapError(f"{option}: found {found!r}, expected an id of the hub such as Qwen/Qwen2.5-7B")
    return found


def files(run: Run, model_id: str, dataset_id: str | None = None, *, model_index: bool = False) -> dict[str, str]:
    """Write the scores of a run as the hub wants them.

    Runs with another format or other settings go into files of their own, so that they are never taken for the same:
    the names end in a hash of all settings.

    Args:
        run: A complete run: all tasks of its formats, or the four layers of a language.
        model_id: Id of the model on the hub.
        dataset_id: Id of the items' dataset on the hub, as `eicap export-dataset` makes it; `DATASET` if None, which
            only the items that ship with the package may be.
        model_index: Whether to write the older block too.

    Returns:
        Name of the file, relative to the root of the model's repository -> its text.

    Raises:
        EicapError: An id is no id, own items have no dataset, the run is partial, lacks a layer or has no date, or the
            model did not see the dialogues.
    """
    check_id("--model-id", model_id)
    if dataset_id is None and (own := _own_items(run)):
        raise EicapError(f"{run.source}: {own}: found other items than those of this package, expected --dataset-id")
    dataset_id = check_id("--dataset-id", dataset_id or DATASET)
    if not run.date:
        raise EicapError(f"{run.source}: found no date of the run, expected the file as lm-eval wrote it")
    if run.partial:
        raise EicapError(f"{run.source}: found a partial run ({run.partial[0]}), expected all probes (no --limit)")
    if run.blind:
        raise EicapError(f"{run.source}: found a run that showed {run.blind[0]}, expected one that showed the dialogue")
    when = datetime.datetime.fromtimestamp(run.date, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    groups: dict[str, list[TaskRun]] = {}
    for task in sorted(run.tasks.values(), key=lambda t: t.name):
        groups.setdefault(_settings_name(task), []).append(task)
    written: dict[str, str] = {}
    for name, tasks in groups.items():
        only = _only(run, tasks)
        entries = [
            EvalResultEntry(
                dataset_id=dataset_id,
                task_id=f"{task.layer}_{task.lang}",
                value=round(100 * _accuracy(run, task), 2),
                date=when,
                notes=_notes(run, task) + only,
            )
            for task in tasks
        ]
        data = eval_result_entries_to_yaml(entries)
        if parse_eval_result_entries(data) != entries:
            raise EicapError(f"{run.source}: huggingface_hub does not read back what it wrote for {name}")
        written[f".eval_results/{name}_{_hash(run, tasks, dataset_id)}.yaml"] = yaml.safe_dump(
            data, allow_unicode=True, sort_keys=False, width=1000
        )
    if model_index:
        every = _hash(run, [task for tasks in groups.values() for task in tasks], dataset_id)
        written[f"model-index_{every}.yaml"] = _model_index(run, model_id, dataset_id)
    return written


def _only(run: Run, tasks: Sequence[TaskRun]) -> str:
    """Say which languages were asked, if not all; refuse a language that lacks a layer."""
    langs = [lang for lang in LANGUAGES if any(task.lang == lang for task in tasks)]
    for lang in langs:
        missing = [layer for layer in LAYERS if not any((t.layer, t.lang) == (layer, lang) for t in tasks)]
        if missing:
            raise EicapError(
                f"{run.source}: found no {', '.join(missing)} of {LANGUAGES[lang]['name']} in the format "
                f"{tasks[0].format}, expected all four layers"
            )
    others = [LANGUAGES[lang]["name"] for lang in LANGUAGES if lang not in langs]
    names = " and ".join(LANGUAGES[lang]["name"] for lang in langs)
    return f"; asked in {names} only, not in {', '.join(others)}" if others else ""


def _hash(run: Run, tasks: Sequence[TaskRun], dataset_id: str) -> str:
    """Hash all settings of tasks, so that files of other settings have other names.

    Where the model lies and versions of software are no settings; other arguments of the model are.
    """
    parts = [
        [
            task.name,
            task.generation,
            {k: v for k, v in task.signature.items() if k not in ("model", *SOFTWARE)},
            task.signature.get("model", "").partition(",")[2],
        ]
        for task in sorted(tasks, key=lambda t: t.name)
    ]
    return short_hash([dataset_id, dict(run.settings), parts])[:8]


def _settings_name(task: TaskRun) -> str:
    """Name a format and its usual settings: "eicap", "eicap_circular", "eicap_5-shot_transcript"."""
    parts = [] if task.format == "letters" else [task.format]
    parts += [f"{task.signature['shots']}-shot"] if task.signature.get("shots", "0") != "0" else []
    for part, usual in (("context", ("turns", "text")), ("labels", ("latin", "none"))):
        value = task.signature.get(part, usual[0])
        parts += [] if value in usual else [value]
    parts += ["chat"] if task.signature.get("chat", "none") != "none" else []
    return "_".join(["eicap", *(re.sub(r"[^A-Za-z0-9-]", "-", part) for part in parts)])


def _accuracy(run: Run, task: TaskRun) -> float:
    return float(run.probes.loc[run.probes["task"] == task.name, "acc"].mean())


def _notes(run: Run, task: TaskRun) -> str:
    own = run.probes[run.probes["task"] == task.name]
    interval = cluster_mean(own["acc"].to_numpy(), own["dialogue"].to_numpy()).share_interval()
    shown = f", 95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
    parts = ("format", "context", "show", "labels", "shots", "chat", "version", "items", "prompts", *SOFTWARE)
    found = [f"{part} {task.signature[part]}" for part in parts if part in task.signature]
    found += [f"gen_kwargs {task.generation}"] if task.generation else []
    settings = ", ".join([*found, *(f"{name} {value}" for name, value in run.settings.items())])
    return f"accuracy in percent{shown}; eicap-tasks on lm-eval: {settings}"


def _model_index(run: Run, model_id: str, dataset_id: str) -> str:
    results = [
        EvalResult(
            task_type="multiple-choice",
            task_name=task.name,
            dataset_type=dataset_id,
            dataset_name="EICAP dialogues and probes",
            dataset_config=f"{task.layer}_{task.lang}",
            dataset_split="test",
            metric_type="accuracy",
            metric_name=f"accuracy, format {task.format}",
            metric_value=round(_accuracy(run, task), 4),
            metric_args={"signature": "|".join(f"{k}:{v}" for k, v in task.signature.items())},
        )
        for task in sorted(run.tasks.values(), key=lambda t: t.name)
    ]
    index: list[dict[str, Any]] = eval_results_to_model_index(model_id.partition("/")[2], results)
    if len(model_index_to_eval_results(index)[1]) != len(results):
        raise EicapError(f"{run.source}: huggingface_hub does not read back the model-index that it wrote")
    return yaml.safe_dump({"model-index": index}, allow_unicode=True, sort_keys=False, width=1000)
