"""Can the right option be found without reading the dialogue? A classifier tries, cross-validated by dialogue."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from eicap_tasks.audit.checks import FEW, Check
from eicap_tasks.documents import LABELS, Document
from eicap_tasks.statistics import cluster_mean, holm

CHANCE = 1 / len(LABELS)
FOLDS = 5
SIGNIFICANT = 0.05

SEES = {"options alone": False, "last visible turn": True}
"""What each classifier sees: its name in the report -> whether it sees the last visible turn beside the options. The
second is for information: the last turn is part of what a probe asks about, and may tell something."""


def shortcuts(tasks: dict[str, Sequence[Document]]) -> Iterator[Check]:
    """Yield, for every task and each kind of classifier, its accuracy against chance.

    That of the options alone passes where it is not significantly above chance: one-sided p at least 0.05 after Holm's
    correction over the tasks, since of eight good tasks one would fail by luck alone in a third of all audits. All
    tasks together, the versions of a dialogue in several languages as one cluster, are for information.
    """
    for name, last_turn in SEES.items():
        values = {
            scope: (hits(docs, last_turn), [doc["dialogue_id"] for doc in docs])
            for scope, docs in tasks.items()
            if len({doc["dialogue_id"] for doc in docs}) >= FOLDS
        }
        found = {scope: cluster_mean(own, dialogues) for scope, (own, dialogues) in values.items()}
        raw = {scope: estimate.p_above(CHANCE) for scope, estimate in found.items()}
        corrected = dict(zip(raw, holm(list(raw.values())), strict=True))
        for scope, estimate in found.items():
            p = f"chance 25 %, p {raw[scope]:.3f}, Holm {corrected[scope]:.3f}"
            yield Check(
                "classifier without the dialogue",
                name,
                scope,
                estimate.mean,
                interval=estimate.share_interval(),
                passes=None if last_turn else corrected[scope] >= SIGNIFICANT,
                judged=estimate.count >= FEW,
                detail=p if last_turn else f"{p}, allowed: at least 0.05",
            )
        if len(found) > 1:
            every = cluster_mean(*(list(chain(*parts)) for parts in zip(*values.values(), strict=True)))
            yield Check(
                "classifier without the dialogue",
                name,
                "all",
                every.mean,
                interval=every.share_interval(),
                judged=False,
                detail=f"chance 25 %, p {every.p_above(CHANCE):.4f}, for information",
            )


def hits(docs: Sequence[Document], last_turn: bool, seed: int = 0) -> list[float]:
    """Let a classifier choose one option of every document, having learnt from the dialogues of other folds.

    It is a logistic regression over the options, each described by its character n-grams (1 to 4, within words), its
    length, punctuation and likeness to the question and to the other options, and where asked to the last visible
    turn. The option with the highest score is chosen.

    Args:
        docs: Documents of at least `FOLDS` dialogues.
        last_turn: Whether likeness to the last visible turn counts too.
        seed: Seed of the regression.

    Returns:
        1.0 per document where the right option was chosen, else 0.0; shape (len(docs),).
    """
    texts = [text for doc in docs for text in doc["options"]]
    right = np.array([place == doc["gold"] for doc in docs for place in range(len(LABELS))])
    numbers = np.array([row for doc in docs for row in _numbers(doc, last_turn)])
    groups = np.repeat([doc["dialogue_id"] for doc in docs], len(LABELS))
    scores = np.zeros(len(texts))
    for train, test in GroupKFold(FOLDS).split(texts, right, groups):
        grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), min_df=3, sublinear_tf=True)
        scaler = StandardScaler()
        known = sparse.hstack([grams.fit_transform([texts[i] for i in train]), scaler.fit_transform(numbers[train])])
        new = sparse.hstack([grams.transform([texts[i] for i in test]), scaler.transform(numbers[test])])
        model = LogisticRegression(C=0.5, max_iter=1000, random_state=seed).fit(known.tocsr(), right[train])
        scores[test] = model.decision_function(new.tocsr())
    chosen = scores.reshape(len(docs), len(LABELS)).argmax(axis=1)
    return [float(doc["gold"] == place) for doc, place in zip(docs, chosen, strict=True)]


def _numbers(doc: Document, last_turn: bool) -> list[list[float]]:
    """Describe each option by numbers relative to those of its probe: shape (options, features)."""
    bags = [_words(text) for text in doc["options"]]
    question, turn = _words(doc["question"]), _words(doc["turns"][-1]["text"])
    rows = []
    for place, text in enumerate(doc["options"]):
        others = [_likeness(bags[place], bag) for i, bag in enumerate(bags) if i != place]
        row = [
            len(text),
            len(bags[place]),
            sum(map(len, bags[place])) / max(1, len(bags[place])),
            sum(text.count(sign) for sign in ",،;؛:-"),
            sum(text.count(sign) for sign in "?؟!"),
            sum(char.isdigit() for char in text),
            _likeness(bags[place], question),
            max(others),
            sum(others),
        ]
        rows.append([*map(float, row), _likeness(bags[place], turn) if last_turn else 0.0])
    table = np.array(rows)
    ranks = table.argsort(axis=0, kind="stable").argsort(axis=0)
    relative: list[list[float]] = np.hstack([table - table.mean(axis=0), ranks]).tolist()
    return relative


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the Jaccard index of two sets of words: 0 to 1."""
    return len(one & other) / max(1, len(one | other))
