"""Means of clustered values: the texts are independent draws, the positions within a text are not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its standard error, which is None for fewer than two clusters."""

    value: float
    standard_error: float | None
    num_clusters: int


def ratio(totals: Sequence[float], sizes: Sequence[float]) -> Mean | None:
    """The sum of all clusters' totals over the sum of their sizes; None where the sizes sum to 0.

    For totals y, sizes x and ratio R, the variance of R is about n / (n - 1) times the sum of (y - R x)^2, divided by
    the squared sum of x: the linearised variance of a ratio of two sums with clusters as draws (W. G. Cochran, Sampling
    Techniques, 3rd edition, 1977, sections 6.4 and 9A.1, without the finite population correction). It is accurate from
    about twenty clusters on and too small below.
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
    """The mean of independent values with its standard error; None without values."""
    return ratio(values, [1.0] * len(values))
