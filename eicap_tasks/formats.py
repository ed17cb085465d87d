"""Other ways to ask the same probes: rotated, for a generated answer, as continuations, in a chain."""

from __future__ import annotations

from typing import Any

from eicap_tasks import filters, metrics  # filters registers what the YAML of generated answers names
from eicap_tasks.documents import LABELS, Document, rotate
from eicap_tasks.reading import opens_thinking
from eicap_tasks.task import EicapTask


class CircularTask(EicapTask):
    """Every probe in all four rotations of its options, as one document with sixteen requests.

    What a model knows and which letter it prefers are then told apart.
    """

    format = "circular"

    def fewshot_context(self, doc: Document, *args: Any, **kwargs: Any) -> list[Any]:
        """Assemble the prompt of every rotation; see `EicapTask.fewshot_context`."""
        return [super(CircularTask, self).fewshot_context(rotate(doc, r), *args, **kwargs) for r in range(len(LABELS))]

    def construct_requests(self, doc: Document, ctx: list[Any], **kwargs: Any) -> list[Any]:
        """Make the requests of every rotation; a rotation's four share one context, hence one forward pass."""
        requests: list[Any] = []
        for r, context_of_rotation in enumerate(ctx):
            requests += super().construct_requests(rotate(doc, r), context_of_rotation, **kwargs)
        for index, request in enumerate(requests):
            request.idx = index
        return requests

    def scores(self, doc: Document, results: list[Any]) -> dict[str, Any]:
        """Score one document.

        Args:
            doc: The document.
            results: Per rotation and label, the log-likelihood (natural log) and whether it was greedy.

        Returns:
            `acc` (mean over rotations), `acc_circular`, `consistency`, and the chosen positions under
            `position_bias`, which aggregates them; see `eicap_tasks.metrics`.
        """
        count = len(doc["options"])
        rows = [[value for value, _ in results[start : start + count]] for start in range(0, len(results), count)]
        choices = [metrics.choice(row) for row in rows]
        golds = [rotate(doc, r)["gold"] for r in range(count)]
        return {
            "acc": sum(c == g for c, g in zip(choices, golds, strict=True)) / count,
            "acc_circular": metrics.all_right(choices, golds),
            "consistency": metrics.consistent(choices),
            "position_bias": choices,
        }


class GeneratedTask(EicapTask):
    """Every probe asked for a generated answer, for chat-only APIs and reasoning models."""

    format = "gen"

    def build_all_requests(self, **kwargs: Any) -> None:
        """Build the requests, and forget what a server sent in an earlier run of this process."""
        filters.UNPARSED.seen = False
        super().build_all_requests(**kwargs)

    def construct_requests(self, doc: Document, ctx: Any, **kwargs: Any) -> Any:
        """Make the request, and note whether the prompt leaves the model inside its thinking.

        Some chat templates (DeepSeek-R1, QwQ, EXAONE Deep) end with the tag that opens it, so that the text has none.
        """
        begun = opens_thinking(str(ctx[0] if isinstance(ctx, tuple) else ctx))
        kept = begun and not (self.config.metadata or {}).get("think_end_token")  # else lm-eval cuts the thinking off
        return super().construct_requests({**doc, "thinking": kept}, ctx, **kwargs)

    def scores(self, doc: Document, results: list[Any]) -> dict[str, Any]:
        """Score one document.

        Args:
            doc: The document.
            results: What the filter read: the position of the option chosen, or None for no answer.

        Returns:
            `acc` (no answer counts 0), `parse_rate`, and under `acc_parsed`, which aggregates them, whether
            the answer was right and whether there was one.
        """
        right, parsed = float(results[0] == doc["gold"]), float(results[0] is not None)
        return {"acc": right, "parse_rate": parsed, "acc_parsed": (right, parsed)}


class ClozeTask(EicapTask):
    """Every option scored as a continuation, for base models: nothing is listed, nothing has a letter.

    In the response layer nothing is asked either: the candidates are the next message of the dialogue.
    """

    format = "cf"

    def scores(self, doc: Document, results: list[Any]) -> dict[str, Any]:
        """Score one document.

        Args:
            doc: The document.
            results: Per option, the log-likelihood (natural log) of its text after the prompt and whether it
                was greedy; then the same without any prompt.

        Returns:
            Accuracy of the most likely option: `acc` by log-likelihood, `acc_bytes` by log-likelihood per
            UTF-8 byte, `acc_mutual_info` by the difference to the log-likelihood without the prompt, as in
            Brown et al. (2020), Language Models are Few-Shot Learners, arXiv:2005.14165, section 2.4.
        """
        count = len(doc["options"])
        given = [value for value, _ in results[:count]]
        alone = [value for value, _ in results[count:]]
        per_byte = [v / len(text.encode()) for v, text in zip(given, doc["options"], strict=True)]
        return {
            "acc": metrics.accuracy(given, doc["gold"]),
            "acc_bytes": metrics.accuracy(per_byte, doc["gold"]),
            "acc_mutual_info": metrics.accuracy([g - a for g, a in zip(given, alone, strict=True)], doc["gold"]),
        }


class ChainTask(EicapTask):
    """Every probe after the earlier probes of its dialogue with their right answers: the paper's multi-turn form."""

    format = "chain"

    def scores(self, doc: Document, results: list[Any]) -> dict[str, Any]:
        """Score one document.

        Args:
            doc: The document.
            results: As for `EicapTask.scores`.

        Returns:
            `acc` and `brier_score`, and `acc_1` to `acc_4`, which aggregate whether the answer was right and whether
            the probe is the first, second, third, or fourth or a later one of its chain.
        """
        scores = super().scores(doc, results)
        place = min(len(doc["earlier"]) + 1, len(PLACES))
        return scores | {f"acc_{n}": (scores["acc"], float(n == place)) for n in PLACES}


PLACES = range(1, 5)
"""Places in a chain that are told apart; the last one stands for all later ones too."""
