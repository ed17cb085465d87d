"""An audit as a table in the terminal, as JSON and as a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from eicap_tasks import pages, plots
from eicap_tasks.audit.checks import Check, failures

PLOTS = {
    "length of the right option": ("right option is the longest", "right option is the shortest"),
    "classifier without the dialogue": ("options alone", "last visible turn"),
    "language model": (),
}
"""Which groups are drawn, and which of their checks; all where none is named."""


def worst(checks: Iterable[Check]) -> list[Check]:
    """Choose one row per check: the failed ones, else the one nearest to a limit, else the first."""
    by_name: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        by_name.setdefault((check.group, check.name), []).append(check)
    rows = []
    for own in by_name.values():
        rows += failures(own) or [min(own, key=_slack)]
    return rows


def _slack(check: Check) -> float:
    gaps = [check.value - check.low] if check.low is not None else []
    gaps += [check.high - check.value] if check.high is not None else []
    return min(gaps, default=0.0) if check.judged else float("inf")


def tables(checks: Iterable[Check]) -> Group:
    """Lay out checks for a terminal of 80 columns, a table for each group."""
    parts: list[Any] = []
    for group, own in groupby(checks, lambda check: check.group):
        grid = Table(box=None, padding=(0, 1, 0, 0), show_header=not parts)
        for title, width in (("", 4), ("check", 30), ("where", 12), ("found", 16), ("allowed", 12)):
            grid.add_column(title, width=width, overflow="fold")
        for check in own:
            mark = {True: Text("ok", "green"), False: Text("FAIL", "bold red"), None: Text("-", "dim")}[check.passed]
            name = Text(check.name)
            if check.detail and (check.passed is False or not check.allowed):
                name.append(f"\n{check.detail}", style="dim")
            grid.add_row(mark, name, check.scope, check.found.replace(" [", "\n["), check.allowed)
        parts += [Text(f"\n{group}", style="bold"), grid]
    return Group(*parts)


def as_json(checks: Sequence[Check], name: str, digest: str) -> str:
    """Return all checks as JSON text."""
    found = {"items": name, "sha256": digest, "failed": len(failures(checks)), "checks": [c.as_json() for c in checks]}
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def _band(check: Check) -> tuple[float | None, float | None] | None:
    return None if check.low is None and check.high is None else (check.low, check.high)


def page(checks: Sequence[Check], name: str, summary: str) -> str:
    """Return all checks as a page with plots."""
    pictures = []
    for group, names in PLOTS.items():
        own = [c for c in checks if c.group == group and (not names or c.name in names)]
        points = [
            plots.Point(f"{c.scope}: {c.name}", c.value, c.interval, _band(c), c.passed is not False) for c in own
        ]
        if points:
            drawn = plots.svg(plots.dots(points, axis="shaded: allowed; dashed: chance", reference=0.25))
            pictures.append((group, pages.picture(drawn)))
    return pages.render(
        "audit",
        name=name,
        summary=summary,
        checks=checks,
        groups=list(dict.fromkeys(check.group for check in checks)),
        failed=failures(checks),
        judged=sum(check.passed is not None for check in checks),
        pictures=pictures,
    )
