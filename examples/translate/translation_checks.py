"""What a translated message must be: in the script of its language, about as long as its source, not a loop."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, inf
from typing import Final

from splitting import FENCE

from eicap_tasks.errors import EicapError, nearest
from eicap_tasks.text_checks import CONTROL_TOKEN, MIN_LETTERS, essence

LANGUAGES: Final = {
    "am": ("Amharic", "ETHIOPIC"),
    "apc": ("Levantine Arabic", "ARABIC"),
    "ar": ("Modern Standard Arabic", "ARABIC"),
    "ary": ("Moroccan Arabic", "ARABIC"),
    "arz": ("Egyptian Arabic", "ARABIC"),
    "bg": ("Bulgarian", "CYRILLIC"),
    "bn": ("Bengali", "BENGALI"),
    "cs": ("Czech", "LATIN"),
    "da": ("Danish", "LATIN"),
    "de": ("German", "LATIN"),
    "el": ("Greek", "GREEK"),
    "en": ("English", "LATIN"),
    "es": ("Spanish", "LATIN"),
    "fa": ("Persian", "ARABIC"),
    "fi": ("Finnish", "LATIN"),
    "fr": ("French", "LATIN"),
    "ha": ("Hausa", "LATIN"),
    "he": ("Hebrew", "HEBREW"),
    "hi": ("Hindi", "DEVANAGARI"),
    "hu": ("Hungarian", "LATIN"),
    "hy": ("Armenian", "ARMENIAN"),
    "id": ("Indonesian", "LATIN"),
    "it": ("Italian", "LATIN"),
    "ja": ("Japanese", "CJK HIRAGANA KATAKANA"),
    "ka": ("Georgian", "GEORGIAN"),
    "ko": ("Korean", "HANGUL"),
    "ms": ("Malay", "LATIN"),
    "nl": ("Dutch", "LATIN"),
    "no": ("Norwegian", "LATIN"),
    "pl": ("Polish", "LATIN"),
    "ps": ("Pashto", "ARABIC"),
    "pt": ("Portuguese", "LATIN"),
    "ro": ("Romanian", "LATIN"),
    "ru": ("Russian", "CYRILLIC"),
    "so": ("Somali", "LATIN"),
    "sr": ("Serbian", "CYRILLIC LATIN"),
    "sv": ("Swedish", "LATIN"),
    "sw": ("Swahili", "LATIN"),
    "ta": ("Tamil", "TAMIL"),
    "th": ("Thai", "THAI"),
    "tr": ("Turkish", "LATIN"),
    "uk": ("Ukrainian", "CYRILLIC"),
    "ur": ("Urdu", "ARABIC"),
    "vi": ("Vietnamese", "LATIN"),
    "zh": ("Chinese", "CJK"),
}
"""Code -> English name and scripts, the first words of the Unicode names of its letters."""

SLACK = 10
"""Characters that a message may be longer or shorter than the ratio says: "OK" may become a word of eleven."""

MAX_REPETITION = 0.5
"""Share of the words that may belong to one 4-gram said three times or more."""

NOT_PROSE = re.compile(rf"{FENCE.pattern}|`[^`\n]+`|https?://\S+", re.DOTALL)
WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|\S+")  # a character is a word where no spaces are written


@dataclass(frozen=True)
class Problem:
    """Why a message is dropped.

    Attributes:
        reason: One of a few words, to count by.
        detail: What was found and what is allowed.
    """

    reason: str
    detail: str


@dataclass(frozen=True)
class Limits:
    """What a translation is checked against.

    Attributes:
        lang: Its language, a key of `LANGUAGES`.
        min_script: Least share (0 to 1) of its letters in the scripts of that language.
        length_ratio: Least and greatest length in characters, as a multiple of the source's.

    Raises:
        EicapError: The language is not in the table, or a limit makes no sense.
    """

    lang: str = "ar"
    min_script: float = 0.7
    length_ratio: tuple[float, float] = (0.4, 2.5)

    def __post_init__(self) -> None:
        if self.lang not in LANGUAGES:
            message = f"--to: found {self.lang!r}, allowed: {', '.join(LANGUAGES)}{nearest(self.lang, LANGUAGES)}"
            raise EicapError(f"{message} (more: LANGUAGES in translation_checks.py)")
        if not 0 <= self.min_script <= 1:
            raise EicapError(f"--min-script: found {self.min_script}, allowed: 0 to 1")
        low, high = self.length_ratio
        if not 0 <= low < high < inf:
            raise EicapError(f"--length-ratio: found {low} {high}, allowed: two numbers from 0, the lower first")


def prose(text: str) -> str:
    """Return the text without code and links, which are the same in every language."""
    return NOT_PROSE.sub(" ", text).strip()


def find_problem(source: str, target: str, limits: Limits) -> Problem | None:
    """Check one translated message.

    Args:
        source: The message.
        target: Its translation.
        limits: What is allowed.

    Returns:
        The first problem; None where there is none, or where the source has no word outside code and links.
    """
    markup = len(CONTROL_TOKEN.findall(target)) - len(CONTROL_TOKEN.findall(source))
    source, target = prose(source), prose(target)
    if not _letters(source):
        return None
    if not target:
        return Problem("empty", "found nothing, allowed: a text")
    if len(_letters(source)) >= MIN_LETTERS and essence(source) == essence(target):
        return Problem("identical", "found the source itself, allowed: a translation")
    if markup > 0:
        return Problem("markup", f"found {markup} more pieces of chat markup than in the source, allowed: none")
    if (share := script_share(target, limits.lang)) < limits.min_script:
        scripts = " or ".join(LANGUAGES[limits.lang][1].split())
        return Problem("script", f"found {share:.3f} of the letters in {scripts}, allowed: {limits.min_script} or more")
    low, high = (ratio * len(source) for ratio in limits.length_ratio)
    least, most = max(1, ceil(low - SLACK)), floor(high + SLACK)
    if not least <= len(target) <= most:
        return Problem("length", f"found {len(target)} characters for {len(source)}, allowed: {least} to {most}")
    if (repeated := repetition(target)) > MAX_REPETITION:
        return Problem(
            "repetition", f"found one 4-gram in {repeated:.3f} of the words, allowed: {MAX_REPETITION} or less"
        )
    return None


def script_share(text: str, lang: str) -> float:
    """Return the share (0 to 1) of the letters that are in the scripts of a language; 1 for under `MIN_LETTERS`."""
    letters, scripts = _letters(text), LANGUAGES[lang][1].split()
    if len(letters) < MIN_LETTERS:
        return 1.0
    return sum(_script(char) in scripts for char in letters) / len(letters)


def repetition(text: str) -> float:
    """Return the share (0 to 1) of the words that belong to the most frequent 4-gram, if it is there three times."""
    words = WORD.findall(text)
    grams = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    gram, count = Counter(grams).most_common(1)[0] if grams else ((), 0)
    if count < 3:
        return 0.0
    return len({i + k for i, other in enumerate(grams) if other == gram for k in range(4)}) / len(words)


def _letters(text: str) -> list[str]:
    return [char for char in text if char.isalpha()]


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    return unicodedata.name(char, "").split(" ")[0].split("-")[0]
