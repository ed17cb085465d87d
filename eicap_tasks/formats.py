"""Other ways to ask the same probes: in all four rotations of the options."""

from __future__ import annotations

from typing import Any

from eicap_tasks import metrics
from eicap_tasks.documents import LABELS, Document, rotate
from eicap_tasks.task import EicapTask


class CircularTask(EicapTask):
    """Every probe in all four rotations of its options, as one document with sixteen requests.

    What a model knows and which letter it prefers are then told apart.
    """

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

    def process_results(self, doc: Document, results: list[Any]) -> dict[str, Any]:
        """Score one document.

        Args:
            doc: The document.
            results: Per rotation and label, the log-likelihood (natural log) and whether it was greedy.

        Returns:
            `acc` (mean over rotations), `acc_circular`, `consistency`, and the chosen positions under
            `position_bias`, which aggregates them; see `eicap_tasks.metrics`.
        """
        if "bypass" in self._metric_fn_list:  # --predict_only
            return {"bypass": 999}
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
