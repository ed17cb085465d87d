"""Scores against visible arithmetic and against the harness's own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.metrics import brier_score as harness_brier

from eicap_tasks import metrics
from eicap_tasks.errors import EicapError

logs = st.lists(st.floats(-80, 0), min_size=4, max_size=4)


def test_known_values() -> None:
    even = [math.log(0.25)] * 4
    assert metrics.brier(even, 2) == pytest.approx(3 * 0.25**2 + 0.75**2)  # 0.75
    half = [math.log(p) for p in (0.5, 0.25, 0.125, 0.125)]
    assert metrics.brier(half, 0) == pytest.approx(0.5**2 + 0.25**2 + 2 * 0.125**2)
    assert metrics.brier([0.0, -math.inf, -math.inf, -math.inf], 0) == 0.0
    assert metrics.brier([0.0, -math.inf, -math.inf, -math.inf], 1) == 2.0
    assert metrics.accuracy([-3.0, -1.0, -2.0, -4.0], 1) == 1.0
    assert metrics.accuracy([-3.0, -1.0, -2.0, -4.0], 2) == 0.0
    assert metrics.choice([-1.0, -1.0, -2.0, -1.0]) == 0  # the first of equal ones


@pytest.mark.parametrize("values", [[math.nan] * 4, [-1.0, math.nan, -2.0, -3.0], [-math.inf] * 4])
def test_what_cannot_be_scored_is_not_scored(values: list[float]) -> None:
    for score in (metrics.accuracy, metrics.brier):
        with pytest.raises(EicapError, match="which cannot be scored, expected numbers"):
            score(values, 0)


def test_large_negative_values_do_not_underflow() -> None:
    assert metrics.probabilities([-1000.0, -1001.0]) == pytest.approx([1 / (1 + math.e**-1), 1 / (1 + math.e)])


@given(logs, st.integers(0, 3))
def test_the_brier_score_is_the_harness_s(loglikelihoods: list[float], gold: int) -> None:
    theirs = harness_brier([(gold, metrics.probabilities(loglikelihoods))])
    assert metrics.brier(loglikelihoods, gold) == pytest.approx(theirs)


@given(logs, st.floats(-50, 50))
def test_only_differences_count(loglikelihoods: list[float], shift: float) -> None:
    moved = [value + shift for value in loglikelihoods]
    assert metrics.probabilities(moved) == pytest.approx(metrics.probabilities(loglikelihoods), abs=1e-9)
    assert sum(metrics.probabilities(moved)) == pytest.approx(1.0)
