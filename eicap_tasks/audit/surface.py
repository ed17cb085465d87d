"""What options look like: their places and lengths, and the style of replies."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from eicap_tasks.audit.checks import FEW, Check
from eicap_tasks.documents import LABELS, Document
from eicap_tasks.statistics import cluster_mean, codes
from eicap_tasks.vocabulary import LANGUAGES

LONGEST = (0.20, 0.30)
"""How often the right option may be the longest, or the shortest: chance is a quarter."""
POSITION = (0.20, 0.30)
STYLE_POINTS = 0.10
"""Right replies may differ from wrong ones by this much, or by what chance allows, in any mark of style."""
PERMUTATIONS = 2000
SIGNIFICANT = 0.05


def positions(scope: str, docs: Sequence[Document]) -> Iterator[Check]:
    """Yield how often the right option stands at its most frequent and at its rarest place."""
    counts = Counter(doc["gold"] for doc in docs)
    shares = {LABELS[place]: counts[place] / len(docs) for place in range(len(LABELS))}
    listed = ", ".join(f"{label} {100 * share:.0f} %" for label, share in shares.items())
    for name, pick in (("place most often right", max), ("place least often right", min)):
        yield _share("position of the right option", name, scope, pick(shares.values()), POSITION, docs, listed)


def lengths(scope: str, docs: Sequence[Document]) -> Iterator[Check]:
    """Yield how well one does by picking the longest option, and the shortest, and how unequal options are.

    Of options that tie for the longest, one is picked by lot, so that chance is exactly a quarter.
    """
    for name, pick in (("right option is the longest", max), ("right option is the shortest", min)):
        wins = []
        for doc in docs:
            sizes = [len(option) for option in doc["options"]]
            tied = [i for i, size in enumerate(sizes) if size == pick(sizes)]
            wins.append((doc["gold"] in tied) / len(tied))
        yield _share("length of the right option", name, scope, sum(wins) / len(wins), LONGEST, docs)
    ratios = [len(doc["options"][doc["gold"]]) / statistics.mean(map(len, _wrong(doc))) for doc in docs]
    yield Check(
        "length of the right option",
        "right option's characters to the wrong ones' mean",
        scope,
        statistics.mean(ratios),
        unit="ratio",
        low=0.95,
        high=1.05,
        judged=len(docs) >= FEW,
    )


def style(scope: str, docs: Sequence[Document], lang: str) -> Iterator[Check]:
    """Yield how right replies differ from wrong ones in questions, hedges, exclamations, and first words."""
    listed = "|".join(map(re.escape, LANGUAGES[lang].get("hedges", [])))
    hedges = re.compile(rf"(?<!\w)(?:{listed or '(?!)'})(?!\w)", re.IGNORECASE)
    marks: dict[str, Callable[[str], bool]] = {
        "asks a question": lambda text: "?" in text or "؟" in text,
        "hedges": lambda text: bool(hedges.search(text)),
        "exclaims": lambda text: "!" in text,
    }
    group = "style of right replies"
    for name, mark in marks.items():
        differences = [
            mark(doc["options"][doc["gold"]]) - statistics.mean(mark(text) for text in _wrong(doc)) for doc in docs
        ]
        estimate = cluster_mean(differences, [doc["dialogue_id"] for doc in docs])
        interval = estimate.interval()
        within = abs(estimate.mean) <= STYLE_POINTS or (interval is not None and interval[0] <= 0 <= interval[1])
        yield Check(
            group, f"{name}: right minus wrong", scope, estimate.mean, interval=interval, passes=within,
            judged=len(docs) >= FEW, detail=f"allowed: within {STYLE_POINTS:.0%} of 0, or not distinguishable from 0",
        )  # fmt: skip
    for count in (1, 3):
        distance, p = opening_distance(docs, count)
        yield Check(
            group, f"first {'three words' if count == 3 else 'word'}: distance of right from wrong", scope, distance,
            passes=p >= SIGNIFICANT, judged=len(docs) >= FEW, detail=f"permutation p {p:.3f}, allowed: at least 0.05",
        )  # fmt: skip


def opening_distance(docs: Sequence[Document], words: int, seed: int = 0) -> tuple[float, float]:
    """Compare how right and wrong replies begin.

    Args:
        docs: Documents of one task.
        words: How many first words make an opening.
        seed: Seed of the permutations.

    Returns:
        Total variation distance between the openings of right and of wrong options (0 to 1), and its p value: the
        share of `PERMUTATIONS` draws of one option per probe as the right one with a distance at least as great.
    """
    openings = [_opening(text, words) for doc in docs for text in doc["options"]]
    code = codes(openings).reshape(len(docs), -1)
    options, size, rows = len(openings) // len(docs), int(code.max()) + 1, np.arange(len(docs))
    everything = np.bincount(code.ravel(), minlength=size)

    def distance(gold: NDArray[np.intp]) -> float:
        right = np.bincount(code[rows, gold], minlength=size)
        wrong = (everything - right) / (len(docs) * (options - 1))
        return float(np.abs(right / len(docs) - wrong).sum() / 2)

    found = distance(np.array([doc["gold"] for doc in docs]))
    draws = np.random.default_rng(seed).integers(0, options, (PERMUTATIONS, len(docs)))
    greater = sum(distance(draw) >= found - 1e-12 for draw in draws)
    return found, (greater + 1) / (PERMUTATIONS + 1)


def _opening(text: str, words: int) -> str:
    return " ".join(re.findall(r"\w+", text.casefold())[:words])


def _wrong(doc: Document) -> list[str]:
    return [text for place, text in enumerate(doc["options"]) if place != doc["gold"]]


def _share(
    group: str,
    name: str,
    scope: str,
    value: float,
    limits: tuple[float, float],
    docs: Sequence[Document],
    detail: str = "",
) -> Check:
    low, high = limits
    return Check(group, name, scope, value, low=low, high=high, detail=detail, judged=len(docs) >= FEW)
