"""lm-eval's filter that reads generated answers; the reading itself is `reading.read_answer`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lm_eval.api.filter import Filter
from lm_eval.api.registry import filter_registry, register_filter

from eicap_tasks.errors import EicapError
from eicap_tasks.reading import read_answer

NAME = "eicap_answer"

logger = logging.getLogger(__name__)


class _Unparsed(logging.Filter):
    """Remembers that lm-eval could not parse what a server sent: it logs that, and takes it for an empty answer."""

    seen = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Look at every record, and let through what the level of lm-eval's log lets through."""
        self.seen = self.seen or record.getMessage().startswith("Could not parse generations")
        return logging.getLogger("lm_eval").isEnabledFor(record.levelno)


UNPARSED = _Unparsed()
"""Whether a server sent what is no answer; a run of a task begins with `UNPARSED.seen = False`."""
_LOG = logging.getLogger("lm_eval.models.openai_completions")
_LOG.addFilter(UNPARSED)
_LOG.setLevel(logging.WARNING)  # a filter sees nothing below the level


class AnswerFilter(Filter):  # type: ignore[misc]
    """Turns each generated text into the position of the option chosen, or None where none was."""

    def apply(self, resps: Iterable[Any], docs: Iterable[Mapping[str, Any]]) -> list[list[int | None]]:
        """Read all answers, and log a warning where all are empty.

        Args:
            resps: Per document, the texts generated for it.
            docs: The documents, in the same order.

        Returns:
            Per document and text, what `read_answer` says.

        Raises:
            EicapError: An answer is no text, or all are empty and lm-eval could not parse what a server sent.
        """
        pairs = [(list(texts), doc) for texts, doc in zip(resps, docs, strict=True)]
        _look_for_text(pairs)
        return [
            [read_answer(text, doc["options"], doc["labels"], thinking=doc.get("thinking", False)) for text in texts]
            for texts, doc in pairs
        ]


def _look_for_text(pairs: Sequence[tuple[Sequence[Any], Mapping[str, Any]]]) -> None:
    """Refuse answers that no model gave: lm-eval takes a server's {"error": ...} with status 200 for an empty one."""
    answers = [text for texts, _ in pairs for text in texts]
    odd = next((text for text in answers if not isinstance(text, str)), None)
    if not answers or (odd is None and any(text.strip() for text in answers)):
        return
    task = f"eicap_{pairs[0][1]['layer']}_{pairs[0][1]['lang']}_gen"
    found = f"no text in any of the {len(answers)} answers" if odd is None else f"{odd!r} as an answer"
    message = (
        f"{task}: found {found}, expected text. Causes are a server that sends something else, such as an error, with "
        "status 200 (lm-eval then warns 'Could not parse generations'), a thinking that --gen_kwargs max_gen_toks cuts "
        "off, and a model asked without its chat template. The database that --use_cache names holds what came: delete "
        "it, or name another, before you run the command again"
    )
    if odd is not None or UNPARSED.seen:
        raise EicapError(message)
    logger.warning("%s. They count as no answer.", message)


if NAME not in filter_registry:  # the module can be reached by the YAML and by an entry point
    register_filter(NAME)(AnswerFilter)
