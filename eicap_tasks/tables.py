"""Tables of text: for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

Row = Mapping[str, str]
_NUMBER: Final = re.compile(r"[-+–<\[\], .\d]*")
_SHORT: Final = 10


def terminal(rows: Sequence[Row], title: str = "") -> Table:
    """Lay out rows of text for a terminal; the first column is a name, the others are numbers.

    Where there is little room, names and long headings are folded, numbers with short headings are not.

    Args:
        rows: Column -> text; all rows have the columns of the first.
        title: What stands above.
    """
    grid = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, name in enumerate(rows[0]):
        whole = len(name) < _SHORT and all(_NUMBER.fullmatch(row[name]) for row in rows)
        grid.add_column(name, justify="left" if i == 0 else "right", overflow="fold", no_wrap=whole)
    for row in rows:
        grid.add_row(*(Text(value) for value in row.values()))
    return grid


def markdown(rows: Sequence[Row]) -> str:
    """Return rows of text as a Markdown table; marks that Markdown or HTML would obey are written as text."""
    head = list(rows[0])
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *([plain(value) for value in row.values()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plain(text: str) -> str:
    """Return a text with the marks that Markdown or HTML would obey written as text."""
    for mark, written in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"),
                          ("[", "\\["), ("]", "\\]"), ("*", "\\*"), ("_", "\\_"), ("\n", " ")):  # fmt: skip
        text = text.replace(mark, written)
    return text


def verbatim(lines: Sequence[str]) -> str:
    """Return lines as an indented code block of Markdown, in which no mark is obeyed."""
    return "".join(f"    {line}\n" for line in lines)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV (RFC 4180). Text that a spreadsheet would run as a formula begins with an apostrophe.

    See OWASP, CSV Injection.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return buffer.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def percent(value: float | None) -> str:
    """Show a share in percent without its sign: 0.614 -> "61.4"; nothing as "–"."""
    return "–" if value is None or value != value else f"{100 * value:.1f}"


def points(value: float | None) -> str:
    """Show a difference of shares in points with its sign: 0.061 -> "+6.1"."""
    return "–" if value is None or value != value else f"{100 * value:+.1f}"


def p_value(value: float | None) -> str:
    """Show a p value: three digits, "<0.001" below that."""
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def interval(ends: tuple[float, float] | None, signed: bool = False) -> str:
    """Show an interval of shares in percent, e.g. "[54.2, 68.9]"."""
    show = points if signed else percent
    return "–" if ends is None else f"[{show(ends[0])}, {show(ends[1])}]"
