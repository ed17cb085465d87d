"""Is everything that the taxonomy names asked often enough, and do probes need what was said before?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from eicap_tasks import vocabulary
from eicap_tasks.audit.checks import FEW, Check
from eicap_tasks.schema import Dialogue

FULL_SET = 200
"""`LEAST` is for this many dialogues with one probe per layer; smaller sets need less, in proportion to their probes
(skills, emotions, traps) or dialogues (cultures, domains)."""
LEAST = {"skill": 24, "emotion": 6, "trap": 20, "culture": 4, "domain": 10}
MOST = 0.25
"""No trap may serve more than this share of all wrong options."""
EVEN = (0.28, 0.39)
"""Share of each of the three levels of difficulty in a task."""
ASSISTANT = (0.55, 0.65)
ORIGIN = (0.45, 0.55)
DIALECT = 0.25
TWO_TURNS = 0.8
REACHES_BACK = 0.6


def coverage(lang: str, dialogues: Sequence[Dialogue], *, alone: bool = False) -> Iterator[Check]:
    """Yield the rarest entry of each vocabulary, the levels, kinds, origins and varieties, and the evidence.

    Args:
        lang: The language.
        dialogues: Its dialogues.
        alone: Whether it is the only one: then all may well have been written in it first.
    """
    probes = [probe for dialogue in dialogues for probe in dialogue.probes]
    enough = len(probes) >= FEW
    layers = {probe.layer for probe in probes}
    skills = [skill for skill, layer in vocabulary.SKILLS.items() if layer in layers]
    traps = [trap for trap, entry in vocabulary.TRAPS.items() if layers & set(entry["layers"])]
    counted: dict[str, tuple[Iterable[str], Iterable[str]]] = {
        "skill": (skills, (p.skill for p in probes)),
        "emotion": (vocabulary.EMOTIONS, (p.emotion for p in probes)),
        "trap": (traps, (entry.trap for p in probes for entry in p.distractors)),
        "culture": ((c for c in vocabulary.CULTURES if c != "unspecified"), (d.culture for d in dialogues)),
        "domain": ((d for d in vocabulary.DOMAINS if d != "other"), (d.domain for d in dialogues)),
    }
    for name, (entries, found) in counted.items():
        counts = Counter(found)
        size = len(dialogues) / FULL_SET
        if name in ("skill", "emotion", "trap"):
            size = len(probes) / (FULL_SET * len(vocabulary.LAYERS))
        least = int(LEAST[name] * size)
        ordered = sorted(entries, key=lambda entry: counts[entry])
        listed = [f"{entry} {counts[entry]}" for entry in ordered if entry == ordered[0] or counts[entry] < least]
        value, detail = counts[ordered[0]], ", ".join(listed)
        yield Check("coverage", f"uses of the rarest {name}", lang, value, unit="count", low=least, detail=detail)
    used = Counter(entry.trap for p in probes for entry in p.distractors)
    trap, count = used.most_common(1)[0]
    share = count / used.total()
    yield Check("coverage", "share of the most frequent trap", lang, share, high=MOST, detail=trap, judged=enough)
    yield from _composition(lang, dialogues, alone)
    for layer in (layer for layer in vocabulary.LAYERS if layer in layers):
        own = [probe for probe in probes if probe.layer == layer]
        for level in vocabulary.DIFFICULTIES:
            share = sum(probe.difficulty == level for probe in own) / len(own)
            scope = f"{layer}_{lang}"
            yield Check(
                "difficulty", f"share of {level}", scope, share, low=EVEN[0], high=EVEN[1], judged=len(own) >= FEW
            )
    several = sum(len(probe.evidence_turns) > 1 for probe in probes) / len(probes)
    back = sum(probe.evidence_turns[0] < probe.after_turn for probe in probes) / len(probes)
    last = sum(p.after_turn == len(d.turns) for d in dialogues for p in d.probes) / len(probes)
    yield Check("evidence", "probes that two or more turns settle", lang, several, low=TWO_TURNS, judged=enough)
    yield Check(
        "evidence", "probes with a cue before the last visible turn", lang, back, low=REACHES_BACK, judged=enough
    )
    yield Check("evidence", "probes asked after the last turn of the dialogue", lang, last)


def _composition(lang: str, dialogues: Sequence[Dialogue], alone: bool) -> Iterator[Check]:
    enough, number = len(dialogues) >= FEW, len(dialogues)
    assistant = sum(d.kind == "assistant" for d in dialogues) / number
    origin = sum(d.origin == lang for d in dialogues) / number
    low, high = ASSISTANT
    yield Check("composition", "dialogues with an assistant", lang, assistant, low=low, high=high, judged=enough)
    low, high = ORIGIN
    name, judged = "dialogues written in this language first", enough and not alone
    yield Check("composition", name, lang, origin, low=low, high=high, judged=judged)
    if lang == "ar":
        varieties = Counter(d.variety for d in dialogues)
        listed = ", ".join(f"{variety} {count}" for variety, count in sorted(varieties.items()))
        dialect = 1 - varieties["Standard"] / number
        yield Check("composition", "dialogues in a dialect", lang, dialect, low=DIALECT, detail=listed, judged=enough)
