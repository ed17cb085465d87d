"""Checks on item text: its script, and characters that a tokenizer or a terminal would obey."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from eicap_tasks.vocabulary import LANGUAGES

_BRACKETED = (
    "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|CALL_ID|THINK|IMG|IMG_END|IMG_BREAK"
    "|PREFIX|MIDDLE|SUFFIX|BOS|EOS|PAD|UNK|CLS|SEP|MASK|gMASK|sMASK|control_[0-9]+|unused[0-9]+"
)
CONTROL_TOKEN = re.compile(
    rf"""
    [<\[][|｜][^<>\[\]]{{0,40}}[|｜][>\]]      # <|im_end|> <｜User｜> [|Human|]
  | <[|｜] | [|｜]> | \[\| | \|\]             # and pieces of them
  | <<?/?[^\W\d][^<>\s]{{0,40}}>>?          # </s> <start_of_turn> <<SYS>> <extra_id_0> <think>
  | <[0-9][a-z]{{2,8}}>                      # <2ar>
  | >>[A-Z_]+<<                             # >>TITLE<<
  | \[/?(?:{_BRACKETED})\]                   # [INST] [/INST] [TOOL_CALLS] [gMASK]
    """,
    re.VERBOSE,
)
"""Chat markup: what tokenizers of the common model families read as control tokens."""

_BLANK = "\u115f\u1160\u3164\uffa0\u2800"
"""Letters and symbols that show nothing."""

MIN_LETTERS = 4
"""A text with fewer letters than this ("OK", "4") is not judged by its script."""


def is_visible(text: str) -> bool:
    """Tell whether a text shows anything: a letter, mark of punctuation, number or symbol."""
    return any(unicodedata.category(char)[0] in "LNPS" and char not in _BLANK for char in text)


def essence(text: str) -> str:
    """Reduce a text to what tells it from another: no case, spacing, invisible characters or final point."""
    plain = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    return " ".join(plain.casefold().split()).rstrip(".…")


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
