"""Few-shot examples: from the `dev` split, of the same layer and language, never a dialogue that is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eicap_tasks import items
from eicap_tasks.documents import LABELS, Document
from eicap_tasks.errors import EicapError
from eicap_tasks.views import Format, Show, view


def examples(
    asked: Iterable[Document],
    lang: str,
    layer: str,
    format: Format = "letters",
    show: Show = "dialogue",
    labels: Sequence[str] = LABELS,
) -> list[Document]:
    """Return the examples that a task may show, in the order in which it shows them.

    Args:
        asked: All documents of the task.
        lang: Language code.
        layer: Layer.
        format: As for `view`, with which the documents were made.
        show: Likewise.
        labels: Likewise.
    """
    dialogues = {doc["dialogue_id"] for doc in asked}
    dev = view(items.load(items.shipped("dev", lang)), lang, layer, format, show, labels)
    return [doc for doc in dev if doc["dialogue_id"] not in dialogues]


def check_count(count: int, available: int, task: str) -> None:
    """Refuse a `--num_fewshot` that there are not enough examples for.

    Raises:
        EicapError: `count` is greater than `available`, or below 0.
    """
    if not 0 <= count <= available:
        raise EicapError(
            f"--num_fewshot: found {count}, allowed for {task}: 0 to {available}, the number of probes in the dev split"
        )
