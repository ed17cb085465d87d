"""What the command asks of a translation model, whichever kind it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from splitting import Piece
from translation_checks import Problem


@dataclass(frozen=True)
class Translation:
    """What a model made of a piece, and what went wrong with it, if anything."""

    text: str
    problem: Problem | None = None


class Translator(Protocol):
    """What the command needs of a model."""

    def split(self, text: str) -> list[Piece]:
        """Cut a message into pieces that the model can take."""

    def stream(self, texts: Iterable[str]) -> Iterator[Translation]:
        """Translate pieces in their order, reading some ahead."""
