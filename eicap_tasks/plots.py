"""Pictures, drawn by matplotlib without a screen: the same input gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LABEL = 70
INK, QUIET, BAND, GOOD, BAD = "#1c2430", "#8a94a2", "#dbe7f5", "#1b62b5", "#b3261e"


@dataclass(frozen=True)
class Point:
    """One row of a dot plot.

    Attributes:
        label: What stands beside it.
        value: Where the dot is.
        interval: Where its whiskers end.
        band: The shaded range behind it; an end that is None is the end of the plot.
        good: Whether the dot has the quiet colour.
    """

    label: str
    value: float
    interval: tuple[float, float] | None = None
    band: tuple[float | None, float | None] | None = None
    good: bool = True


def figure(width: float, height: float) -> tuple[Any, Any]:
    """Make an empty figure with one pair of axes; sizes in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # "hashsalt" and the date below make an SVG the same in every run.
    mpl.rcParams.update({"svg.hashsalt": "eicap", "svg.fonttype": "none", "font.size": 9.0})
    canvas = Figure(figsize=(width, height), layout="constrained")
    axes = canvas.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    return canvas, axes


def dots(points: Sequence[Point], *, axis: str, reference: float | None = None) -> Any:
    """Draw shares, in percent, with their intervals over the range that each may have: a dot or forest plot.

    Args:
        points: The rows, from top to bottom.
        axis: What the numbers are.
        reference: Where a line marks chance, or no difference.

    Returns:
        A matplotlib figure.
    """
    canvas, axes = figure(7.5, 0.9 + 0.24 * len(points))
    rows = range(len(points))
    values = [v for p in points for v in (p.value, *(p.interval or ()), *(b for b in p.band or () if b is not None))]
    values += [] if reference is None else [reference]
    margin = 0.05 * ((max(values) - min(values)) or 1.0)
    low, high = min(values) - margin, max(values) + margin
    for row, point in zip(rows, points, strict=True):
        colour = GOOD if point.good else BAD
        if point.band:
            left, right = point.band
            start = low if left is None else left
            axes.barh(row, (high if right is None else right) - start, left=start, height=0.8, color=BAND, zorder=0)
        if point.interval:
            axes.plot(point.interval, (row, row), color=colour, linewidth=1.4)
        axes.plot(point.value, row, marker="o" if point.good else "D", markersize=5, color=colour)
    if reference is not None:
        axes.axvline(reference, color=QUIET, linewidth=1, linestyle="--", zorder=0)
    axes.set_xlim(low, high)
    axes.set_yticks(list(rows), [_plain(point.label) for point in points])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel(_plain(axis))
    return canvas


def svg(canvas: Any) -> str:
    """Return a figure as SVG text without the XML declaration, to stand in a page."""
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(canvas: Any, dpi: int = 160) -> bytes:
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _plain(text: str) -> str:
    """Return a text that is drawn as it stands, not as a formula, and not too long."""
    return (text if len(text) <= LABEL else f"{text[: LABEL - 1]}…").replace("$", r"\$")


def reliability(bins: Sequence[tuple[float, float, int]]) -> Any:
    """Draw a reliability diagram: accuracy against confidence, the area of a dot as its number of probes.

    Args:
        bins: Mean confidence, accuracy and number of probes of each range.
    """
    canvas, axes = figure(4.5, 4.2)
    most = max(count for _, _, count in bins)
    axes.plot((0, 1), (0, 1), color=QUIET, linewidth=1, linestyle="--", zorder=0)
    axes.plot([c for c, _, _ in bins], [a for _, a, _ in bins], color=GOOD, linewidth=1)
    axes.scatter([c for c, _, _ in bins], [a for _, a, _ in bins], s=[160 * n / most + 8 for *_, n in bins], color=GOOD)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="confidence in the chosen option", ylabel="accuracy")
    axes.spines["left"].set_visible(True)
    return canvas
