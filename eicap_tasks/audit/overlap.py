"""Do dialogues, questions, options and people repeat themselves?"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

from eicap_tasks import text_checks
from eicap_tasks.audit.checks import Check
from eicap_tasks.schema import Dialogue

GRAM = 5
SHARED_GRAMS = 0.2
"""No two dialogues share more of their word 5-grams than this."""
OPENINGS = 0.10
"""At most this share of dialogues may begin with the three words of another: greetings are few."""
REPEATED = 0.05
"""At most this share of questions or options may be another one's."""
NAME_LIMIT = 4
"""No name may belong to speakers of more dialogues than this."""
NEAR = 0.8


def overlap(lang: str, dialogues: Sequence[Dialogue]) -> Iterator[Check]:
    """Yield how much the dialogues of one language repeat each other."""
    group = "repetition"
    share, pair = most_alike(dialogues)
    yield Check(
        group,
        "word 5-grams shared by the two most alike dialogues",
        lang,
        share,
        high=SHARED_GRAMS,
        detail=" and ".join(pair),
    )
    openings = Counter(" ".join(_words(d.turns[0].text)[:3]) for d in dialogues)
    yield _repeated("dialogues that open with the same three words as another", lang, openings, OPENINGS)
    questions = Counter(text_checks.essence(p.question) for d in dialogues for p in d.probes)
    yield _repeated("questions asked again in the same words", lang, questions, REPEATED)
    near = near_duplicates(dialogues)
    total = 4 * sum(len(d.probes) for d in dialogues)
    detail = "; ".join(f"{one!r} ({place}) and {other!r} ({where})" for one, place, other, where in near[:3])
    involved = {option for one, place, other, where in near for option in ((one, place), (other, where))}
    yield Check(
        group, "options nearly equal to one of another probe", lang, len(involved) / total, high=REPEATED, detail=detail
    )
    names = Counter(name for d in dialogues for name in {s.name for s in d.speakers if s.role != "assistant"})
    name, count = names.most_common(1)[0]
    yield Check(group, "dialogues of the most frequent name", lang, count, unit="count", high=NAME_LIMIT, detail=name)


def most_alike(dialogues: Sequence[Dialogue]) -> tuple[float, tuple[str, ...]]:
    """Find the two dialogues that share most of their word 5-grams.

    Returns:
        The share (0 to 1) of the 5-grams of the shorter one's turns that the other has too, and the ids of the two;
        0.0 and no ids where none share any.
    """
    by_id = {d.id: grams(d) for d in dialogues}
    holders = defaultdict(list)
    for dialogue, own in by_id.items():
        for gram in own:
            holders[gram].append(dialogue)
    shared = Counter(pair for who in holders.values() for pair in combinations(sorted(who), 2))
    best: tuple[float, tuple[str, ...]] = (0.0, ())
    for pair, count in sorted(shared.items()):
        best = max(best, (count / min(len(by_id[d]) for d in pair), pair), key=lambda entry: entry[0])
    return best


def grams(dialogue: Dialogue) -> set[tuple[str, ...]]:
    """Collect the word 5-grams of a dialogue's turns, in lower case."""
    return {gram for turn in dialogue.turns for gram in _grams(_words(turn.text))}


def near_duplicates(dialogues: Sequence[Dialogue]) -> list[tuple[str, str, str, str]]:
    """List options of different probes with a Jaccard index of their words of at least 0.8: text, probe, text, probe.

    Of several that are alike, each is listed with the first.

    Options of four words or fewer must be equal: "Relieved" and the like are in the nature of some questions, and
    equal ones of up to two words are passed over.
    """
    options = [
        (frozenset(_words(text)), text, p.id)
        for d in dialogues
        for p in d.probes
        for text in (p.answer, *(entry.text for entry in p.distractors))
    ]
    holders = defaultdict(set)
    for i, (words, _, _) in enumerate(options):
        for word in words:
            holders[word].add(i)
    found, taken = [], set()
    for i, (words, text, probe) in enumerate(options):
        if len(words) < 3 or i in taken:
            continue
        rare = sorted(words, key=lambda word: len(holders[word]))[: len(words) - int(NEAR * len(words)) + 1]
        for j in sorted(set().union(*(holders[word] for word in rare))):
            other = options[j]
            alike = len(words & other[0]) / len(words | other[0])
            if j > i and probe != other[2] and alike >= (NEAR if len(words) > 4 else 1.0):
                found.append((text, probe, other[1], other[2]))
                taken.add(j)
    return found


def _repeated(name: str, lang: str, counts: Counter[str], high: float) -> Check:
    extra = counts.total() - len(counts)
    listed = ", ".join(f"{text!r} {count} times" for text, count in counts.most_common(3) if count > 1)
    return Check("repetition", name, lang, extra / counts.total(), high=high, detail=listed)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _grams(words: list[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1))
