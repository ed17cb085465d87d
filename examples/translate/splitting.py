"""Cuts a message into what is translated and what is kept: code blocks, spaces, line breaks, list markers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Piece = tuple[str, bool]
"""A part of a text, and whether it is to be translated. The parts of a text, joined, are the text."""

FENCE = re.compile(r"(```.*?(?:```|\Z))", re.DOTALL)

BOUNDARY = re.compile(
    r"""(
      (?:\A|\s*\n)\s*(?:(?:[#>*+•-]+|\d+[.)])\s+)*             # a new line, with its marks of lists, headings, quotes
    | (?:(?<=[.!?…؟])|(?<=[.!?…؟]["'”’»)*]))\s+(?![a-z])      # the end of a sentence, but not of "e.g. this"
      (?<!\b[A-Z]\.\s)(?<!\b[DMS][rst]\.\s)(?<!\bMrs\.\s)      # nor of an initial or a title
    | (?<=[。！？])
    )""",
    re.VERBOSE,
)

CLAUSE = re.compile(r"[,;:،؛，、]\s*")
SPACE = re.compile(r"\s+")


def split(text: str, fits: Callable[[str], bool] | None = None) -> list[Piece]:
    """Cut a text into pieces that, joined, are the text.

    Args:
        text: A message, perhaps with code blocks between ``` fences, which are kept.
        fits: Whether a piece is short enough for the model. With it the text is cut at every line and sentence,
            since models that were trained on sentences lose some of a longer text, and a sentence that does not fit
            at a comma or space near its middle. Without it, only code blocks are cut out.

    Returns:
        The pieces. One to be translated has a letter, and no space at either end.
    """
    pieces: list[Piece] = []
    for place, part in enumerate(FENCE.split(text)):
        if place % 2:
            pieces.append((part, False))
        elif fits is None:
            pieces += _trimmed(part)
        else:
            chunks = (chunk for sentence in BOUNDARY.split(part) for chunk in _shortened(sentence, fits))
            pieces += [piece for chunk in chunks for piece in _trimmed(chunk)]
    return pieces


def _shortened(text: str, fits: Callable[[str], bool]) -> list[str]:
    if len(text) < 2 or not text.strip() or fits(text):
        return [text]
    middle = cut = len(text) // 2
    for pattern in (CLAUSE, SPACE):
        ends = [m.end() for m in pattern.finditer(text) if abs(m.end() - middle) <= len(text) / 4]
        if ends:
            cut = min(ends, key=lambda end: abs(end - middle))
            break
    return _shortened(text[:cut], fits) + _shortened(text[cut:], fits)


def _trimmed(text: str) -> Iterator[Piece]:
    core = text.strip()
    if not any(char.isalpha() for char in core):
        core = ""
    before, _, after = text.partition(core) if core else (text, "", "")
    yield from ((part, part == core) for part in (before, core, after) if part)
