"""Statistics of scores: means whose probes come in dialogues, and what tells two runs apart.

The unit that was drawn is the dialogue: its probes, and its English and Arabic versions, are one cluster. Small pure
functions over numpy arrays; scipy and statsmodels where they have what is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eicap_tasks.errors import EicapError

LEVEL: Final = 0.95
"""Confidence level of every interval, unless one asks for another."""


@dataclass(frozen=True)
class Estimate:
    """A mean with the standard error that clusters leave it.

    Attributes:
        mean: The mean.
        se: Its cluster-robust standard error, 0.0 where clusters do not differ; None where there is one cluster only.
        count: Number of values.
        clusters: Number of clusters.
    """

    mean: float
    se: float | None
    count: int
    clusters: int

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Return the confidence interval of the mean: Student's t with clusters - 1 degrees of freedom.

        None where the standard error is not defined, or 0: clusters that do not differ say nothing of others.
        """
        if not self.se:
            return None
        reach = float(stats.t.ppf(0.5 + level / 2, self.clusters - 1)) * self.se
        return self.mean - reach, self.mean + reach

    def share_interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Return the confidence interval of a mean of values from 0 to 1: Wilson's score interval (Wilson 1927).

        Its number of trials is the effective one that the cluster-robust standard error leaves, mean (1 - mean) / se^2
        (Korn & Graubard 1998, Confidence Intervals for Proportions with Small Expected Number of Positive Counts),
        at most the number of values; the number of clusters where all values are the same. None with one cluster.
        """
        if self.se is None:
            return None
        spread = self.mean * (1 - self.mean)
        trials = min(self.count, spread / self.se**2) if self.se and spread > 0 else self.clusters
        z = float(stats.t.ppf(0.5 + level / 2, self.clusters - 1))
        center = (self.mean + z**2 / (2 * trials)) / (1 + z**2 / trials)
        reach = z / (1 + z**2 / trials) * float(np.sqrt(spread / trials + z**2 / (4 * trials**2)))
        return max(0.0, center - reach), min(1.0, center + reach)

    def p_above(self, value: float) -> float:
        """Return the one-sided p value of a mean above `value`: small where the mean is clearly above it.

        Without a standard error, or with none at all, it is 1 for a mean up to `value`, else 0.
        """
        if not self.se:
            return 0.0 if self.se == 0.0 and self.mean > value else 1.0
        return float(stats.t.sf((self.mean - value) / self.se, self.clusters - 1))


def codes(clusters: Sequence[Any] | NDArray[Any]) -> NDArray[np.intp]:
    """Number clusters from 0 in the order of their sorted names. Shape: as given."""
    return np.unique(np.asarray(clusters), return_inverse=True)[1]


def cluster_mean(values: Sequence[float] | NDArray[Any], clusters: Sequence[Any] | NDArray[Any]) -> Estimate:
    r"""Return a mean with its cluster-robust standard error.

    The variance of the mean is :math:`G/(G-1) \sum_g (\sum_{i \in g} e_i)^2 / n^2`, where e are the deviations from
    the mean and G is the number of clusters: the sandwich estimator of a regression on an intercept with the usual
    small-sample factor (Cameron & Miller 2015, A Practitioner's Guide to Cluster-Robust Inference, section II; used
    for scores of language models by Miller 2024, Adding Error Bars to Evals, arXiv:2411.00640).

    Args:
        values: Scores, shape (n,).
        clusters: Name of the cluster of each, shape (n,).

    Returns:
        The estimate; its `se` is None with one cluster.

    Raises:
        EicapError: There is no value, or the shapes differ.
    """
    array, groups = np.asarray(values, dtype=float), codes(clusters)
    if array.size == 0 or array.shape != groups.shape:
        raise EicapError(
            f"found {array.size} values in {groups.size} clusters, expected at least one value, each in one"
        )
    mean = float(array.mean())
    number = int(groups.max()) + 1
    if number == 1:
        return Estimate(mean, None, array.size, 1)
    sums = np.bincount(groups, weights=array - mean)
    se = float(np.sqrt(number / (number - 1) * np.sum(sums**2))) / array.size
    return Estimate(mean, se if se > 1e-12 else 0.0, array.size, number)


RESAMPLES: Final = 10_000
LEAST_CLUSTERS: Final = 5
"""With fewer, no interval is read off resamples: they cannot reach far enough."""
_CHUNK: Final = 500
"""Resamples drawn at a time: memory stays below 100 MB for 10,000 dialogues."""


def bootstrap_means(
    values: NDArray[np.float64],
    clusters: NDArray[np.intp],
    resamples: int = RESAMPLES,
    seed: int = 0,
    number: int | None = None,
) -> NDArray[np.float64]:
    """Resample whole clusters with replacement and return the means of every column.

    The pairs cluster bootstrap (Cameron, Gelbach & Miller 2008, Bootstrap-Based Improvements for Inference with
    Clustered Errors): a cluster is drawn with all its values.

    Args:
        values: Shape (n, columns); NaN where a value does not belong to a column's group.
        clusters: Number of the cluster of each row, 0 to G - 1, shape (n,).
        resamples: Number of resamples.
        seed: Seed of the draws.
        number: G, where some clusters may have no value here; the same number and seed draw the same clusters.

    Returns:
        Means, shape (resamples, columns); NaN where a resample has no value of a column.
    """
    number = number or int(clusters.max()) + 1
    present = ~np.isnan(values)
    sums, counts = (np.zeros((number, values.shape[1]), dtype=np.float32) for _ in range(2))
    np.add.at(sums, clusters, np.where(present, values, 0.0))
    np.add.at(counts, clusters, present)
    draws, means = np.random.default_rng(seed), []
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        drawn = (
            draws.integers(0, number, (rows, number), dtype=np.int32)
            + number * np.arange(rows, dtype=np.int32)[:, None]
        )
        weights = np.bincount(drawn.ravel(), minlength=rows * number).reshape(rows, number).astype(np.float32)
        with np.errstate(invalid="ignore"):
            means.append((weights @ sums).astype(float) / (weights @ counts))
    return np.concatenate(means)


def widened(z: float, clusters: int) -> float:
    """Widen a critical value of the bootstrap for few clusters: from the normal distribution to Student's t.

    Resampling G clusters makes means too little spread, by the factor sqrt((G - 1) / G), and takes their spread for
    known (Hesterberg 2015, What Teachers Should Know about the Bootstrap: expanded percentile interval).

    Args:
        z: Critical value in standard errors, 0 or more.
        clusters: G, 2 or more.
    """
    return math.sqrt(clusters / (clusters - 1)) * float(stats.t.isf(stats.norm.sf(z), clusters - 1))


def percentile_interval(means: NDArray[np.float64], clusters: int, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the percentile interval of resampled means, expanded as `widened` says.

    Args:
        means: Shape (resamples,); NaN ones are left out.
        clusters: Number of clusters that were resampled.
        level: Confidence level.

    Returns:
        The interval; None with fewer than `LEAST_CLUSTERS` clusters, and where nothing varies.
    """
    if clusters < LEAST_CLUSTERS:
        return None
    tail = float(stats.norm.sf(widened(float(stats.norm.ppf(0.5 + level / 2)), clusters)))
    low, high = np.nanquantile(means, [tail, 1 - tail])
    return (float(low), float(high)) if high - low > 1e-9 else None


def sign_flip_p(
    differences: NDArray[np.float64], clusters: NDArray[np.intp], resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Test paired differences that come in clusters: two-sided p values of every column.

    Under the null hypothesis the two runs could change places in any dialogue, so the sign of each cluster's sum of
    differences is a coin's (Fisher's randomization test; Noreen 1989, Computer-Intensive Methods for Testing
    Hypotheses). With one probe to a cluster this is McNemar's test. All arrangements are counted where they are not
    more than `resamples`; else so many are drawn.

    Args:
        differences: Shape (n, columns); NaN where a probe does not belong to a column's group.
        clusters: Number of the cluster of each row, shape (n,).
        resamples: Number of arrangements drawn, where they are.
        seed: Seed of the draws.

    Returns:
        Shape (columns,): the share of arrangements, the observed one among them, whose sum is at least as far from 0.
    """
    number = int(clusters.max()) + 1
    sums = np.zeros((number, differences.shape[1]))
    np.add.at(sums, clusters, np.nan_to_num(differences))
    found = np.abs(sums.sum(axis=0)) - 1e-6
    if 2**number <= resamples:
        every = (np.arange(2**number)[:, None] >> np.arange(number) & 1) * 2 - 1
        return np.asarray((np.abs(every @ sums) >= found).mean(axis=0))
    single = sums.astype(np.float32)
    draws, extreme = np.random.default_rng(seed), np.zeros(differences.shape[1])
    for start in range(0, resamples, _CHUNK):
        signs = draws.integers(0, 2, (min(_CHUNK, resamples - start), number), dtype=np.int8).astype(np.float32) * 2 - 1
        extreme += (np.abs(signs @ single) >= found).sum(axis=0)
    return np.asarray((extreme + 1) / (resamples + 1))


def mcnemar_p(base: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Return the exact two-sided p value of McNemar (1947), by statsmodels.

    It takes probes for independent, which those of one dialogue are not quite.

    Args:
        base: 1.0 where the first run was right, else 0.0, shape (n,).
        other: The same of the second run.

    Returns:
        The p value, 1.0 where no probe was answered differently; None where a score is neither 0 nor 1.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    if not np.isin(base, (0.0, 1.0)).all() or not np.isin(other, (0.0, 1.0)).all():
        return None
    table = [[int(((base == b) & (other == o)).sum()) for o in (1.0, 0.0)] for b in (1.0, 0.0)]
    return float(mcnemar(table, exact=True).pvalue) if table[0][1] + table[1][0] else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number by the step-down procedure of Holm (1979), by statsmodels."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(list(p_values), method="holm")[1]] if len(p_values) else []


def minimum_detectable(estimate: Estimate, alpha: float = 1 - LEVEL, power: float = 0.8) -> float | None:
    """Return the least true difference that such a comparison would find.

    The minimum detectable effect of a paired comparison, (t(1 - alpha/2) + t(power)) times the standard error of the
    difference (Bloom 1995, Minimum Detectable Effects; for scores of language models Miller 2024, section 5).

    Args:
        estimate: The paired difference with its cluster-robust standard error.
        alpha: Level of the two-sided test.
        power: Probability of finding it.

    Returns:
        The difference; None where the standard error is undefined or 0, so that nothing can be said.
    """
    if not estimate.se:
        return None
    degrees = estimate.clusters - 1
    return float(stats.t.ppf(1 - alpha / 2, degrees) + stats.t.ppf(power, degrees)) * estimate.se
