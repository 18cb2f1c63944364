"""Means whose parts come in clusters: the positions of a text are no independent draws, the texts are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its standard error, which is missing where there are fewer than two clusters."""

    value: float
    standard_error: float | None
    num_clusters: int


def ratio(totals: Sequence[float], sizes: Sequence[float]) -> Mean | None:
    """The sum of all clusters' totals over the sum of their sizes; None where the sizes add up to nothing.

    With y a cluster's total, x its size and R the ratio, the variance of R is about n / (n - 1) times the sum of
    (y - R x)^2, over the squared sum of x: the linearised variance of a ratio of two sums, each cluster being one
    draw (W. G. Cochran, Sampling Techniques, 3rd edition, 1977, sections 6.4 and 9A.1, without the correction for a
    finite population). It is good from some twenty clusters on and too small for a handful.
    """
    y, x = np.asarray(totals, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    num_clusters = len(y)
    if x.sum() == 0:
        return None
    value = float(y.sum() / x.sum())
    if num_clusters < 2:
        return Mean(value, None, num_clusters)
    variance = num_clusters / (num_clusters - 1) * float(((y - value * x) ** 2).sum()) / float(x.sum()) ** 2
    return Mean(value, variance**0.5, num_clusters)


def mean(values: Sequence[float]) -> Mean | None:
    """The plain mean of independent values with its standard error; None of none."""
    return ratio(values, [1.0] * len(values))
