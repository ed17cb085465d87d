"""Checks on item text: its script, and characters that a tokenizer or a terminal would obey."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from eicap_tasks.vocabulary import LANGUAGES

CONTROL_TOKEN = re.compile(
    r"""
    <<?[|｜/]?[^\W\d][^<>\s]{0,40}>>?   # <|im_end|> </s> <start_of_turn> <<SYS>> <extra_id_0> <think>
  | \[/?[A-Z][A-Z_]+\]                  # [INST] [/INST] [SYSTEM_PROMPT] [TOOL_CALLS]
    """,
    re.VERBOSE,
)
"""Chat markup: what tokenizers of the common model families read as control tokens."""

MIN_LETTERS = 4
"""A text with fewer letters than this ("OK", "4") is not judged by its script."""


def control_token(text: str) -> str | None:
    """Return the first piece of chat markup in `text`, or None.

    A tokenizer reads such a piece as a control token, so that an item could close its own chat turn
    and open another. No natural dialogue needs one.
    """
    match = CONTROL_TOKEN.search(text)
    return match.group() if match else None


def control_character(text: str) -> str | None:
    """Return the code point ("U+202E") of the first control or direction character, or None.

    Line breaks and tabs are control characters too: a turn or an option is one paragraph.
    Zero-width joiners are allowed, since Arabic-script and emoji text needs them.
    """
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or (
            unicodedata.category(char) == "Cf" and char not in "\u200c\u200d"
        ):
            return f"U+{ord(char):04X}"
    return None


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    return unicodedata.name(char, "").split(" ")[0]


def foreign_share(text: str, lang: str) -> float:
    """Return the share (0 to 1) of the letters of `text` that are not in the script of `lang`.

    A text with fewer than `MIN_LETTERS` letters has share 0.
    """
    letters = [char for char in text if char.isalpha()]
    if len(letters) < MIN_LETTERS:
        return 0.0
    script: str = LANGUAGES[lang]["script"]
    foreign = sum(_script(char) != script for char in letters)
    return foreign / len(letters)
