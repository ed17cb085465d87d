"""Statistics against other tools, by hand and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from eicap_tasks.errors import EicapError
from eicap_tasks.statistics import cluster_mean


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


def test_the_edges() -> None:
    assert cluster_mean([1, 1, 0], ["a", "a", "a"]).se is None
    assert cluster_mean([1, 1, 0], ["a", "a", "a"]).interval() is None
    assert cluster_mean([1, 1], ["a", "a"]).p_above(0.25) == 1.0
    right = cluster_mean([1, 1, 1], ["a", "a", "b"])
    assert (right.mean, right.se, right.interval(), right.p_above(0.25)) == (1.0, 0.0, (1.0, 1.0), 0.0)
    with pytest.raises(EicapError, match="found 0 values in 0 clusters"):
        cluster_mean([], [])
    with pytest.raises(EicapError, match="found 2 values in 1 clusters"):
        cluster_mean([1, 0], ["a"])


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1))
def test_names_and_order_of_clusters_do_not_matter(rows: list[tuple[float, int]]) -> None:
    values, clusters = zip(*rows, strict=True)
    ours = cluster_mean(values, clusters)
    other = cluster_mean(values[::-1], [f"cluster {9 - c}" for c in clusters[::-1]])
    assert other.mean == pytest.approx(ours.mean)
    assert (other.se is None) == (ours.se is None)
    assert other.se == pytest.approx(ours.se, abs=1e-12) if ours.se is not None else True
