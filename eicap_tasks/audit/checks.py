"""What an audit finds: one number against stated limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

FEW = 40
"""Shares over fewer probes than this are shown, not judged: chance alone moves 25 % by 14 points at 40 probes."""


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        group: Kind of check, a heading of the report.
        name: What was measured.
        scope: Where: a task such as "appraisal_en", a language, or "all".
        value: What was found.
        unit: "share" (0 to 1), "count" or "ratio".
        low: Least allowed value; None where there is none.
        high: Greatest allowed value; None where there is none.
        interval: 95 % interval of the value, where one is defined.
        detail: What else one should know, e.g. which entry is the rarest.
        judged: False where the value is for information, or too few probes stand behind it.
        passes: Verdict of a check that is not a comparison with `low` and `high`; None otherwise.
    """

    group: str
    name: str
    scope: str
    value: float
    unit: Literal["share", "count", "ratio"] = "share"
    low: float | None = None
    high: float | None = None
    interval: tuple[float, float] | None = None
    detail: str = ""
    judged: bool = True
    passes: bool | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the value keeps to its limits; None where it is not judged."""
        if not self.judged or (self.passes is None and self.low is None and self.high is None):
            return None
        if self.passes is not None:
            return self.passes
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)

    @property
    def allowed(self) -> str:
        """The limits, as a reader wants to see them."""
        low, high = (
            None if b is None else f"{100 * b if self.unit == 'share' else b:g}" for b in (self.low, self.high)
        )
        ending = " %" if self.unit == "share" else ""
        if low and high:
            return f"{low} to {high}{ending}"
        return f"at least {low}{ending}" if low else f"at most {high}{ending}" if high else ""

    @property
    def found(self) -> str:
        """The value, as a reader wants to see it."""
        shown = self._show(self.value)
        if self.interval is None:
            return shown
        return f"{shown} [{self._show(self.interval[0])}, {self._show(self.interval[1])}]"

    def _show(self, value: float) -> str:
        return {"share": f"{100 * value:.1f} %", "count": f"{value:g}", "ratio": f"{value:.2f}"}[self.unit]

    def as_json(self) -> dict[str, Any]:
        """Return all fields and the verdict, as JSON takes them."""
        return {**asdict(self), "passed": self.passed}


def failures(checks: Iterable[Check]) -> list[Check]:
    """Return the checks that did not keep to their limits."""
    return [check for check in checks if check.passed is False]
