"""Scores of answered documents. Pure functions of log-likelihoods, positions and choices."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eicap_tasks.errors import EicapError


def probabilities(loglikelihoods: Sequence[float]) -> list[float]:
    """Normalize the log-likelihoods of the options to probabilities (softmax).

    Args:
        loglikelihoods: One natural-log likelihood per option; `-inf` is allowed, not for all.

    Returns:
        Probabilities that sum to 1, in the same order.

    Raises:
        EicapError: A value is NaN or all are `-inf`: the model computed nothing that could be scored.
    """
    _refuse_undefined(loglikelihoods)
    top = max(loglikelihoods)
    weights = [math.exp(value - top) for value in loglikelihoods]
    total = sum(weights)
    return [weight / total for weight in weights]


def _refuse_undefined(loglikelihoods: Sequence[float]) -> None:
    if any(math.isnan(value) for value in loglikelihoods) or max(loglikelihoods) == -math.inf:
        raise EicapError(
            f"the model gave the log-likelihoods {list(loglikelihoods)}, which cannot be scored, expected numbers; "
            "a half-precision overflow is the usual cause: try --model_args dtype=float32"
        )


def choice(loglikelihoods: Sequence[float]) -> int:
    """Return the position of the most likely option; of equal ones, the first.

    Raises:
        EicapError: As `probabilities` does.
    """
    _refuse_undefined(loglikelihoods)
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


def all_right(choices: Sequence[int], golds: Sequence[int]) -> float:
    """Return 1.0 if the right option was chosen in every rotation, else 0.0 (circular accuracy).

    Source: CircularEval of Liu et al. (2023), MMBench, arXiv:2307.06281.

    Args:
        choices: Chosen position per rotation.
        golds: Position of the right option per rotation.
    """
    return float(list(choices) == list(golds))


def consistent(choices: Sequence[int], options: int = 4) -> float:
    """Return 1.0 if the same option was chosen in every rotation, right or wrong, else 0.0.

    Args:
        choices: Chosen position per rotation; rotation r has every option moved up by r places.
        options: The number of options.
    """
    return float(len({(position + r) % options for r, position in enumerate(choices)}) == 1)


def position_bias(choices: Sequence[Sequence[int]], options: int = 4) -> float:
    """Return how far the chosen positions are from uniform: their total variation distance.

    Half the sum over positions of |share - 1/options|: 0 where every position is chosen equally often,
    1 - 1/options (0.75 of four) where always the same. Over all rotations of every document a model that
    looks at content alone has 0, whatever it understands.

    Args:
        choices: Per document, the chosen position per rotation.
        options: The number of options.

    Raises:
        ValueError: There is no choice at all.
    """
    flat = [position for document in choices for position in document]
    if not flat:
        raise ValueError("position_bias: found no choice, expected one or more")
    return sum(abs(flat.count(position) / len(flat) - 1 / options) for position in range(options)) / 2


def accuracy_among(scores: Sequence[tuple[float, float]]) -> float:
    """Return the share of right answers among those that count; NaN where none does.

    Args:
        scores: Per document, 1.0 for a right answer and 1.0 for one that counts (that could be read, or that
            stands at a certain place of a chain), else 0.0.
    """
    counted = sum(counts for _, counts in scores)
    return sum(right * counts for right, counts in scores) / counted if counted else math.nan
