"""What a language model makes of items with less than the dialogue: the shortcut that a classifier cannot see."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eicap_tasks.audit.checks import FEW, Check
from eicap_tasks.errors import EicapError
from eicap_tasks.options import KEY
from eicap_tasks.runner import TASKS
from eicap_tasks.schema import Dialogue
from eicap_tasks.statistics import cluster_mean
from eicap_tasks.vocabulary import LAYERS

CHOICES_ALONE = 0.32
"""What a model that sees the options alone may reach in any task; chance is a quarter."""


def load_model(name: str, model_args: str, batch_size: int, device: str | None) -> Any:
    """Load a model as lm-eval does.

    Args:
        name: lm-eval's name of the kind of model, e.g. "hf".
        model_args: Its arguments, e.g. "pretrained=MODEL".
        batch_size: Prompts per forward pass.
        device: "cpu", "cuda:0" and so on; None leaves the choice to lm-eval.

    Raises:
        EicapError: The kind of model is unknown or cannot be loaded.
    """
    from lm_eval.api.registry import get_model

    try:
        settings = {"batch_size": batch_size, "device": device}
        return get_model(name).create_from_arg_string(model_args, settings)
    except (ValueError, OSError, KeyError, TypeError, ImportError) as error:
        raise EicapError(
            f"--model {name} --model_args {model_args or 'not given'}: {error}; expected the model's own arguments, "
            "such as pretrained=MODEL; --batch_size and --device are given beside them"
        ) from error


def with_model(
    model: Any, dialogues: Sequence[Dialogue], *, show: Sequence[str], limit: int | None, chat: bool
) -> Iterator[Check]:
    """Ask a model every probe in all four rotations, with more and with less of the dialogue.

    Args:
        model: A model of lm-eval.
        dialogues: The items.
        show: What it sees, in turn: "choices", "last_turn", "dialogue".
        limit: Only so many probes of each task, the first by dialogue id; None for all.
        chat: Whether to use the model's chat template.

    Yields:
        Mean accuracy over rotations per task; with the dialogue, also per level of difficulty.

    Raises:
        EicapError: The model gives no log-likelihoods.
    """
    names = {
        "choices": "a language model with the options alone",
        "last_turn": "a language model with the last visible turn",
        "dialogue": "a language model with the dialogue",
    }
    pairs = {(layer, d.lang) for d in dialogues for layer in {probe.layer for probe in d.probes}}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "items.jsonl")
        data.write_text("".join(d.model_dump_json(exclude_none=True) + "\n" for d in dialogues), encoding="utf-8")
        for shown in show:
            levels: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for layer, lang in sorted(pairs, key=lambda pair: (pair[1], list(LAYERS).index(pair[0]))):
                samples = _samples(model, f"eicap_{layer}_{lang}_circular", data, shown, limit, chat)
                high = CHOICES_ALONE if shown == "choices" else None
                yield _accuracy(names[shown], f"{layer}_{lang}", samples, high)
                for sample in samples:
                    levels[f"{sample['doc']['difficulty']}, {lang}"].append(sample)
            if shown == "dialogue":
                for level, samples in sorted(levels.items()):
                    yield _accuracy(names[shown], level, samples, None)


def _accuracy(name: str, scope: str, samples: list[dict[str, Any]], high: float | None) -> Check:
    estimate = cluster_mean([s["acc"] for s in samples], [s["doc"]["dialogue_id"] for s in samples])
    return Check(
        "language model", f"accuracy of {name}", scope, estimate.mean, high=high, interval=estimate.share_interval(),
        judged=estimate.count >= FEW, detail=f"{estimate.count} probes in four rotations",
    )  # fmt: skip


def _samples(model: Any, task: str, data: Path, show: str, limit: int | None, chat: bool) -> list[dict[str, Any]]:
    import lm_eval
    from lm_eval.tasks import TaskManager

    options: dict[str, Any] = {"show": show, "data": str(data)}
    try:
        results = lm_eval.simple_evaluate(
            model=model,
            tasks=[task],
            task_manager=TaskManager(include_path=str(TASKS), include_defaults=False, metadata={KEY: options}),
            limit=limit,
            apply_chat_template=chat,
            bootstrap_iters=0,
        )
    except NotImplementedError as error:
        raise EicapError(
            f"--model: found {type(model).__name__}, which gives no log-likelihoods ({error}), expected one that does"
        ) from error
    samples: list[dict[str, Any]] = results["samples"][task]
    return samples
