"""Scores of one answered document. Pure functions of log-likelihoods and the gold position."""

from __future__ import annotations

import math
from collections.abc import Sequence


def probabilities(loglikelihoods: Sequence[float]) -> list[float]:
    """Normalize the log-likelihoods of the options to probabilities (softmax).

    Args:
        loglikelihoods: One natural-log likelihood per option; `-inf` is allowed, not for all.

    Returns:
        Probabilities that sum to 1, in the same order.
    """
    top = max(loglikelihoods)
    weights = [math.exp(value - top) for value in loglikelihoods]
    total = sum(weights)
    return [weight / total for weight in weights]


def choice(loglikelihoods: Sequence[float]) -> int:
    """Return the position of the most likely option; of equal ones, the first."""
    return max(range(len(loglikelihoods)), key=lambda i: (loglikelihoods[i], -i))


def accuracy(loglikelihoods: Sequence[float], gold: int) -> float:
    """Return 1.0 if the most likely option is the right one, else 0.0."""
    return float(choice(loglikelihoods) == gold)


def brier(loglikelihoods: Sequence[float], gold: int) -> float:
    """Return the Brier score of one document, over all options.

    The sum over options of (probability - 1 if right else 0)^2: 0 is perfect, 2 is certainty in a
    wrong option, and even odds over four options give 0.75. A strictly proper scoring rule.

    Source: Brier, G. W. (1950), Verification of forecasts expressed in terms of probability,
    Monthly Weather Review 78(1), 1-3.

    Args:
        loglikelihoods: One natural-log likelihood per option.
        gold: Position of the right option.
    """
    return sum((p - (i == gold)) ** 2 for i, p in enumerate(probabilities(loglikelihoods)))
