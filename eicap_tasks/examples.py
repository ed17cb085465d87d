"""Few-shot examples: from the `dev` split, of the same layer and language, never a dialogue that is asked."""

from __future__ import annotations

from collections.abc import Iterable

from eicap_tasks.documents import Document
from eicap_tasks.errors import EicapError


def apart(dev: Iterable[Document], asked: Iterable[Document]) -> list[Document]:
    """Return the examples that a task may show, in the order in which it shows them.

    Args:
        dev: The documents of the `dev` split, same layer and language.
        asked: All documents of the task.
    """
    dialogues = {doc["dialogue_id"] for doc in asked}
    return [doc for doc in dev if doc["dialogue_id"] not in dialogues]


def check_count(count: int, available: int, task: str) -> None:
    """Refuse a `--num_fewshot` that there are not enough examples for.

    Raises:
        EicapError: `count` is greater than `available`.
    """
    if count > available:
        raise EicapError(
            f"--num_fewshot: found {count}, allowed for {task}: 0 to {available}, the number of probes in the dev split"
        )
