"""Artificial items without any shortcut, in which a test plants one defect at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from eicap_tasks import vocabulary
from eicap_tasks.schema import Dialogue

LETTERS = "abcdefghiklmnoprstuvwy"
ARABIC = "ابتثجحخدذرزسشصضطظعغفقكلمنهوي"
LEVELS = list(vocabulary.DIFFICULTIES)


def word(chance: random.Random, letters: str, size: int = 6) -> str:
    return "".join(chance.choice(letters) for _ in range(size))


def phrase(chance: random.Random, letters: str, words: int) -> str:
    return " ".join(word(chance, letters) for _ in range(words))


def dialogue(number: int, lang: str = "en", seed: int = 0) -> dict[str, Any]:
    """Return one dialogue of nonsense words: six turns and a probe of each layer, all options equally long."""
    chance = random.Random(f"{seed} {number} {lang}")
    letters = LETTERS if lang == "en" else ARABIC
    assistant = number % 5 < 3
    roles = ("user", "assistant") if assistant else ("peer", "peer")
    skills = [list(entry["skills"])[number % 6] for entry in vocabulary.LAYERS.values()]
    emotions = list(vocabulary.EMOTIONS)
    probes = []
    for i, layer in enumerate(vocabulary.LAYERS):
        traps = [trap for trap, entry in vocabulary.TRAPS.items() if layer in entry["layers"]]
        options = [phrase(chance, letters, 4) for _ in range(4)]
        probes.append(
            {
                "id": f"d{number:03d}-{i}",
                "layer": layer,
                "skill": skills[i],
                "emotion": emotions[(4 * number + i) % len(emotions)],
                "difficulty": LEVELS[(number + i) % 3],
                "after_turn": 3 + i % 3,
                "question": f"{phrase(chance, letters, 5)}{'?' if lang == 'en' else '؟'}",
                "answer": options[0],
                "distractors": [
                    {"text": text, "trap": traps[(3 * number + j) % len(traps)]} for j, text in enumerate(options[1:])
                ],
                "evidence_turns": [1, 3],
                "rationale": "none",
            }
        )
    varieties = vocabulary.LANGUAGES[lang]["varieties"]
    return {
        "id": f"d{number:03d}",
        "lang": lang,
        "variety": varieties[number % len(varieties)] if lang == "ar" else "Standard",
        "origin": ("en", "ar")[number % 2],
        "culture": vocabulary.CULTURES[number % (len(vocabulary.CULTURES) - 1)],
        "domain": vocabulary.DOMAINS[number % (len(vocabulary.DOMAINS) - 1)],
        "setting": phrase(chance, letters, 5),
        "speakers": [{"id": "u", "name": word(chance, letters), "role": roles[0]},
                     {"id": "v", "name": word(chance, letters), "role": roles[1]}],
        "turns": [{"speaker": "uv"[i % 2], "text": phrase(chance, letters, 20)} for i in range(6)],
        "probes": probes,
    }  # fmt: skip


def dialogues(
    count: int = 60, langs: tuple[str, ...] = ("en", "ar"), plant: Callable[[dict[str, Any], int], None] | None = None
) -> list[Dialogue]:
    """Return valid dialogues; `plant(raw, number)` changes each before it is read."""
    made = []
    for lang in langs:
        for number in range(count):
            raw = dialogue(number, lang)
            if plant:
                plant(raw, number)
            made.append(Dialogue.model_validate(raw))
    return made
