"""The record of the blind readings, `data/validation.jsonl`, those of superseded texts included.

A reading is tied to the content that was read, not to the places of the options, so that it stays valid
when options are placed anew and lapses when a word is changed. `data/guesses.jsonl` is the record of those who
were shown question and options without the dialogue, to see what these give away.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from eicap_tasks.documents import Document
from eicap_tasks.items import SHIPPED

RECORD: Final = SHIPPED / "validation.jsonl"
GUESSES: Final = SHIPPED / "guesses.jsonl"


class Answer(BaseModel):
    """One answer to one probe, by a reader who did not write it and saw no key.

    Attributes:
        options: The options as they were shown, A to D.
        choice: Letter of the option chosen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    probe: str
    lang: str
    reader: str
    date: str
    options: list[str]
    choice: str

    @property
    def chosen(self) -> str:
        """Text of the option chosen."""
        return self.options["ABCD".index(self.choice)]


class Reading(Answer):
    """The answer of a reader of the dialogue.

    Attributes:
        ambiguous: Whether the reader thought that a second option can be defended.
        also_defensible: Letters of such options.
        content: `content_digest` of what was read.
    """

    ambiguous: bool
    also_defensible: list[str]
    note: str
    content: str


class Guess(Answer):
    """The answer of a reader who saw question and options only."""

    question: str


def content_digest(doc: Document) -> str:
    """Hash what a reader is shown of a probe: setting, visible turns, question and the set of options."""
    turns = [[turn["name"], turn["text"]] for turn in doc["turns"]]
    shown = [doc["lang"], doc["setting"], turns, doc["question"], sorted(doc["options"])]
    return hashlib.sha256(json.dumps(shown, ensure_ascii=False).encode()).hexdigest()[:16]


def readings(path: Path = RECORD) -> list[Reading]:
    """Read a record of blind readings."""
    return [Reading.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def guesses(path: Path = GUESSES) -> list[Guess]:
    """Read a record of guesses."""
    return [Guess.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
