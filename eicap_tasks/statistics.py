"""Statistics of scores: means whose probes come in dialogues, and what tells two runs apart.

The unit that was drawn is the dialogue: its probes, and its English and Arabic versions, are one cluster. Small pure
functions over numpy arrays; scipy and statsmodels where they have what is needed.
"""

from __future__ import annotations

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
        se: Its cluster-robust standard error; None where there is one cluster only.
        count: Number of values.
        clusters: Number of clusters.
    """

    mean: float
    se: float | None
    count: int
    clusters: int

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Return the confidence interval of the mean: Student's t with clusters - 1 degrees of freedom.

        None where the standard error is not defined.
        """
        if self.se is None:
            return None
        reach = float(stats.t.ppf(0.5 + level / 2, self.clusters - 1)) * self.se
        return self.mean - reach, self.mean + reach

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
    return Estimate(mean, se, array.size, number)
