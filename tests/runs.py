"""Runs to read, compare and rank: written by lm-eval with a scripted model, or made up."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pandas as pd
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from models import ScriptedModel

from eicap_tasks.results import OPTIONS, Run, TaskRun
from eicap_tasks.runner import TASKS
from eicap_tasks.schema import Dialogue
from eicap_tasks.vocabulary import EMOTION_LAYERS, LANGUAGES, LAYERS

Score = Callable[[dict[str, Any], str], float]


def noisy(seed: int, skill: float = 1.0) -> Score:
    """A model that knows a little: the right label is `skill` more likely, on the scale of its noise."""

    def score(doc: dict[str, Any], label: str) -> float:
        chance = random.Random(f"{seed} {doc['id']} {doc['lang']} {label}")
        return float(3 * chance.random() + skill * (label == doc["labels"][doc["gold"]]))

    return score


def items_file(folder: Path, made: Sequence[Dialogue]) -> Path:
    """Write dialogues into a file."""
    file = folder / "items.jsonl"
    file.write_text("".join(d.model_dump_json(exclude_none=True) + "\n" for d in made), encoding="utf-8")
    return file


def write_run(
    out: Path,
    score: Score,
    tasks: Sequence[str] = ("eicap",),
    *,
    data: Path | None = None,
    name: str = "org/model",
    write: Callable[[dict[str, Any]], str] = lambda doc: "Answer: B",
    samples: bool = True,
    limit: int | None = None,
    options: dict[str, Any] | None = None,
    arguments: dict[str, Any] | str | None = None,
    system: str | None = None,
) -> Path:
    """Run lm-eval with a scripted model, on items of its own or on ours, and let it write its files.

    Its `model_args`, where given, go into the files and the signature as if a backend had had them.
    """
    ours = {**({"data": str(data)} if data else {}), **(options or {})}
    given = {"pretrained": name} if arguments is None else arguments
    of_the_model = arguments if isinstance(arguments, dict) else {}
    metadata = {**of_the_model, **({"eicap": ours} if ours else {})}
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata or None)
    results = lm_eval.simple_evaluate(
        model=ScriptedModel(score, write=write), tasks=list(tasks), task_manager=manager, limit=limit,
        bootstrap_iters=0, apply_chat_template=True, log_samples=True, system_instruction=system,
    )  # fmt: skip
    results["config"]["model_args"] = given
    tracker = EvaluationTracker(output_path=str(out))
    tracker.general_config_tracker.log_experiment_args(name, given, system, None, None)
    logged = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=logged)
    for task, found in logged.items() if samples else ():
        tracker.save_results_samples(task_name=task, samples=found)
    return out


def made_up(
    name: str,
    scores: np.ndarray[Any, Any],
    *,
    probes: int = 1,
    signature: dict[str, str] | None = None,
    date: float = 0.0,
) -> Run:
    """Make a run of scores of shape (dialogues, languages, layers, probes)."""
    rows = []
    emotion_layers = list(EMOTION_LAYERS)
    for d, i, a, p in np.ndindex(*scores.shape):
        lang, layer = list(LANGUAGES)[i], list(LAYERS)[a]
        rows.append(
            {
                "task": f"eicap_{layer}_{lang}", "format": "letters", "layer": layer, "lang": lang,
                "probe": f"d{d:05d}-{a}-{p}", "dialogue": f"d{d:05d}", "gold": 0, "acc": float(scores[d, i, a, p]),
                "emotion_layer": emotion_layers[(d + a) % 5], "parsed": 1.0,
                **dict.fromkeys(("acc_circular", "acc_bytes", "acc_mutual_info", "brier_score"), np.nan),
                **dict.fromkeys([f"option_{j}" for j in range(OPTIONS)], 0.0),
            }
        )  # fmt: skip
    frame = pd.DataFrame(rows)
    parts = {"version": "9-0", "items": "x", "prompts": "y", "format": "letters", **(signature or {})}
    tasks = {}
    for task, own in frame.groupby("task"):
        layer, lang = str(task).removeprefix("eicap_").split("_")
        tasks[str(task)] = TaskRun(str(task), layer, lang, "letters", parts, len(own), len(own))
    return Run(name, Path(f"{name}.json"), date, tasks, frame)
