"""lm-eval's filter that reads generated answers; the reading itself is `reading.read_answer`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lm_eval.api.filter import Filter
from lm_eval.api.registry import filter_registry, register_filter

from eicap_tasks.reading import read_answer

NAME = "eicap_answer"


class AnswerFilter(Filter):  # type: ignore[misc]
    """Turns each generated text into the position of the option chosen, or None where none was."""

    def apply(self, resps: Iterable[Any], docs: Iterable[Mapping[str, Any]]) -> list[list[int | None]]:
        """Read all answers.

        Args:
            resps: Per document, the texts generated for it.
            docs: The documents, in the same order.

        Returns:
            Per document and text, what `read_answer` says.
        """
        return [
            [read_answer(text, doc["options"], doc["labels"], thinking=doc.get("thinking", False)) for text in texts]
            for texts, doc in zip(resps, docs, strict=True)
        ]


if NAME not in filter_registry:  # the module can be reached by the YAML and by an entry point
    register_filter(NAME)(AnswerFilter)
