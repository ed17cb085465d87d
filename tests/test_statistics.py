"""Statistics against other tools, by hand and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eicap_tasks import statistics
from eicap_tasks.errors import EicapError
from eicap_tasks.statistics import Estimate, cluster_mean, holm, mcnemar_p


@pytest.mark.parametrize("seed", range(5))
def test_the_standard_error_is_that_of_a_regression_on_an_intercept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 17, 90)
    values = (rng.random(90) < 0.3 + 0.03 * clusters / 17).astype(float)
    fit = sm.OLS(values, np.ones(90)).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    ours = cluster_mean(values, clusters)
    assert ours.mean == pytest.approx(fit.params[0])
    assert ours.se == pytest.approx(fit.bse[0], rel=1e-12)
    assert ours.interval() == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-9)
    p = fit.t_test("const = 0.25").pvalue / 2
    assert ours.p_above(0.25) == pytest.approx(float(p) if ours.mean > 0.25 else 1 - float(p), rel=1e-9)


def test_with_one_value_to_a_cluster_it_is_the_usual_standard_error() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 1.0]
    ours = cluster_mean(values, list("abcde"))
    assert ours.se == pytest.approx(np.std(values, ddof=1) / np.sqrt(5))
    assert (ours.count, ours.clusters) == (5, 5)


def test_few_clusters_widen_the_interval_of_the_bootstrap() -> None:
    """Of 10 clusters: sqrt(10/9) 2.262 standard errors instead of 1.960."""
    assert statistics.widened(1.959964, 10) == pytest.approx(2.38446, abs=1e-4)
    assert statistics.widened(0.0, 10) == 0.0
    means = np.random.default_rng(0).normal(0.5, 0.1, 400_000)
    assert statistics.percentile_interval(means, 10) == pytest.approx((0.5 - 0.238446, 0.5 + 0.238446), abs=0.003)
    assert statistics.percentile_interval(means, 4) is None
    assert statistics.percentile_interval(np.full(100, 0.5), 10) is None


def test_the_interval_holds_the_mean_in_95_of_100_samples_of_eight_clusters() -> None:
    """Without widening it is 90."""
    rng, held = np.random.default_rng(1), 0
    clusters = np.repeat(np.arange(8), 4)
    for seed in range(1000):
        values = (rng.normal(0, 0.2, (8, 1)) + rng.choice([-1.0, 0.0, 0.0, 1.0], (8, 4))).ravel()
        low, high = statistics.percentile_interval(
            statistics.bootstrap_means(values[:, None], clusters, 400, seed)[:, 0], 8
        ) or (1.0, -1.0)
        held += low <= 0 <= high
    assert 930 <= held <= 970


def test_few_dialogues_are_counted_out_whatever_the_seed() -> None:
    """Seven that all fall: 2 of 128 arrangements are as far from 0, and of three tests the first stays below 5 %."""
    falls, clusters = -np.ones((7, 1)), np.arange(7)
    assert {float(statistics.sign_flip_p(falls, clusters, seed=seed)[0]) for seed in range(20)} == {2 / 128}
    drawn = statistics.sign_flip_p(falls, clusters, resamples=127)[0]
    assert drawn == pytest.approx(2 / 128, abs=0.03)
    assert (drawn * 128) % 1 == 0  # the observed one is among them


def test_the_edges() -> None:
    assert cluster_mean([1, 1, 0], ["a", "a", "a"]).se is None
    assert cluster_mean([1, 1, 0], ["a", "a", "a"]).interval() is None
    assert cluster_mean([1, 1], ["a", "a"]).p_above(0.25) == 1.0
    right = cluster_mean([1, 1, 1], ["a", "a", "b"])
    assert (right.mean, right.se, right.interval(), right.p_above(0.25)) == (1.0, 0.0, None, 0.0)
    thirds = cluster_mean([1, 0, 0] * 10, np.repeat(np.arange(10), 3))
    assert (thirds.se, thirds.interval()) == (0.0, None)  # not 1e-17
    with pytest.raises(EicapError, match="found 0 values in 0 clusters"):
        cluster_mean([], [])
    with pytest.raises(EicapError, match="found 2 values in 1 clusters"):
        cluster_mean([1, 0], ["a"])


def test_paired_ratings_of_agresti() -> None:
    """Agresti 2013, Categorical Data Analysis, section 11.1: approval of a leader in two surveys of 1,600 people.

    794 approved twice, 150 the first time only, 86 the second time only, 570 never: a change of -0.04 with standard
    error 0.0095 and interval (-0.06, -0.02).
    """
    first = np.repeat([1.0, 1.0, 0.0, 0.0], (794, 150, 86, 570))
    second = np.repeat([1.0, 0.0, 1.0, 0.0], (794, 150, 86, 570))
    p = mcnemar_p(first, second)
    assert p == pytest.approx(2 * stats.binom.cdf(86, 236, 0.5), rel=1e-9)
    z2 = (86 - 150) ** 2 / (86 + 150)  # 17.36, McNemar's own statistic
    assert stats.chi2.sf(z2, 1) == pytest.approx(3.1e-5, rel=0.02)
    change = cluster_mean(second - first, np.arange(1600))
    assert change.mean == pytest.approx(-0.04)
    assert change.se == pytest.approx(0.0095, abs=0.0001)
    assert change.interval() == pytest.approx((-0.06, -0.02), abs=0.0015)


def test_holm_by_hand() -> None:
    """Holm 1979: the smallest of m values times m, the next times m - 1, and so on, none below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)]
)
def test_wilson_s_interval_of_newcombe(right: int, count: int, low: float, high: float) -> None:
    """Newcombe 1998, Two-sided Confidence Intervals for the Single Proportion, table I, method 3.

    So many clusters make Student's t normal.
    """
    share = right / count
    known = Estimate(share, float(np.sqrt(share * (1 - share) / count)), count, 10**9)
    assert known.share_interval() == pytest.approx((low, high), abs=5e-5)
    values = np.repeat([1.0, 0.0], (right, count - right))
    wide = cluster_mean(values, np.arange(count)).share_interval()  # Student's t, n - 1 effective trials
    assert wide is not None
    assert wide == pytest.approx((low, high), abs=0.03 if count < 100 else 0.003)
    assert wide[0] <= low + 5e-5
    assert wide[1] >= high - 5e-5


def test_wilson_s_interval_of_none_right() -> None:
    """Newcombe 1998 has 0 to 0.1611 for 0 of 20, which is z^2 / (n + z^2); Student's t with 19 degrees is wider."""
    newcombe = 1.959964**2 / (20 + 1.959964**2)
    assert newcombe == pytest.approx(0.1611, abs=5e-5)
    assert cluster_mean(np.zeros(20), np.arange(20)).share_interval() == pytest.approx(
        (0.0, 2.093024**2 / (20 + 2.093024**2)), abs=1e-6
    )
    assert cluster_mean(np.ones(20), np.arange(20)).share_interval() == pytest.approx(
        (20 / (20 + 2.093024**2), 1.0), abs=1e-6
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1))
def test_names_and_order_of_clusters_do_not_matter(rows: list[tuple[float, int]]) -> None:
    values, clusters = zip(*rows, strict=True)
    ours = cluster_mean(values, clusters)
    other = cluster_mean(values[::-1], [f"cluster {9 - c}" for c in clusters[::-1]])
    assert other.mean == pytest.approx(ours.mean)
    assert (other.se is None) == (ours.se is None)
    assert other.se == pytest.approx(ours.se, abs=1e-12) if ours.se is not None else True
