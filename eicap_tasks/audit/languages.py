"""Do both languages ask the same, and is each written in its own script?"""

from __future__ import annotations

import statistics
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from eicap_tasks import text_checks
from eicap_tasks.audit.checks import Check
from eicap_tasks.schema import Dialogue
from eicap_tasks.vocabulary import LANGUAGES

LENGTH_RATIO = (0.6, 1.3)
"""Characters of a dialogue's turns in one language to those in another. Arabic writes few vowels."""
MARKS = 0.02
"""Vowel signs per letter: more than this and a text looks like a primer."""
TATWEEL = "\u0640"


def parity(dialogues: dict[str, Sequence[Dialogue]]) -> Iterator[Check]:
    """Yield, for every two languages, how many dialogues differ in more than wording.

    Args:
        dialogues: Language code -> its dialogues.
    """
    for one, other in combinations(sorted(dialogues, reverse=True), 2):
        scope, group = f"{one}-{other}", "parity of languages"
        first, second = ({d.id: d for d in dialogues[lang]} for lang in (one, other))
        alone = sorted(first.keys() ^ second.keys())
        yield _count(group, "dialogues in one language only", scope, alone)
        both = sorted(first.keys() & second.keys())
        differ = [id_ for id_ in both if frame(first[id_]) != frame(second[id_])]
        yield _count(group, "dialogues with other probes, keys, turns or evidence", scope, differ)
        if both:
            ratios = [_size(second[id_]) / _size(first[id_]) for id_ in both]
            low, high = LENGTH_RATIO
            outside = [id_ for id_, ratio in zip(both, ratios, strict=True) if not low <= ratio <= high]
            yield Check(
                group, "median ratio of lengths", scope, statistics.median(ratios), unit="ratio", low=low, high=high
            )
            yield _count(group, f"dialogues with a ratio outside {low} to {high}", scope, outside)


def frame(dialogue: Dialogue) -> Any:
    """Return everything of a dialogue but its wording: what its version in another language must have too."""
    return [
        (dialogue.origin, dialogue.culture, dialogue.domain, dialogue.kind),
        [speaker.id for speaker in dialogue.speakers],
        [turn.speaker for turn in dialogue.turns],
        [
            (
                *(p.id, p.layer, p.skill, p.emotion, p.emotion_2, p.difficulty, p.after_turn, p.reply_by),
                *(p.evidence_turns, [entry.trap for entry in p.distractors]),
            )
            for p in dialogue.probes
        ],
    ]


def script(lang: str, dialogues: Sequence[Dialogue]) -> Iterator[Check]:
    """Yield letters and punctuation of other scripts, and, where the script has them, vowel signs and tatweel."""
    group, name = "script", LANGUAGES[lang]["name"]
    texts = {f"{d.id} {place}": text for d in dialogues for place, text in _texts(d)}
    foreign = [place for place, text in texts.items() if text_checks.foreign_share(text, lang) > 0]
    yield Check(
        group, f"texts with letters of another script than {name}'s", lang, len(foreign) / len(texts), high=0.01,
        detail=", ".join(foreign[:3]),
    )  # fmt: skip
    signs = LANGUAGES[lang].get("foreign_punctuation", "")
    wrong = [place for place, text in texts.items() if any(sign in text for sign in signs)]
    yield _count(group, f"texts with one of {' '.join(signs)}", lang, wrong)
    if LANGUAGES[lang]["script"] == "ARABIC":
        everything = "".join(texts.values())
        marks = sum(unicodedata.category(char) == "Mn" for char in everything)
        letters = sum(char.isalpha() for char in everything)
        yield Check(group, "vowel signs per letter", lang, marks / letters, high=MARKS)
        yield _count(group, "texts with tatweel", lang, [place for place, text in texts.items() if TATWEEL in text])


def _texts(dialogue: Dialogue) -> Iterator[tuple[str, str]]:
    yield "setting", dialogue.setting
    for number, turn in enumerate(dialogue.turns, 1):
        yield f"turn {number}", turn.text
    for probe in dialogue.probes:
        yield f"{probe.id} question", probe.question
        yield f"{probe.id} answer", probe.answer
        for number, entry in enumerate(probe.distractors, 1):
            yield f"{probe.id} distractor {number}", entry.text


def _size(dialogue: Dialogue) -> int:
    return sum(len(turn.text) for turn in dialogue.turns)


def _count(group: str, name: str, scope: str, places: Sequence[str]) -> Check:
    return Check(group, name, scope, len(places), unit="count", high=0, detail=", ".join(places[:5]))
