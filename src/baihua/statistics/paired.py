"""Paired comparison of two methods on the same texts, one difference per text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baihua.statistics.clusters import ratio

NUM_DRAWS = 10_000
# Up to this many texts all combinations of signs are tried, at most 16,384.
MAX_EXACT = 14


@dataclass(frozen=True, slots=True)
class Difference:
    """First minus second, per unit of size; error and t are None where all differences are the same."""

    value: float
    standard_error: float | None
    t: float | None
    p: float
    """Two-sided: the share of random sign flips whose total is at least as far from zero."""
    num_texts: int


def compare_paired(
    first: Sequence[float], second: Sequence[float], sizes: Sequence[float] | None = None, *, seed: int = 0
) -> Difference | None:
    """The difference of two ratios with the same sizes (1 each by default) and a sign-flip test; None without texts.

    If the two were the same, each text's difference could equally have the other sign. With few texts all signs are
    tried; otherwise 10,000 draws, plus the observed one so that p is never 0 (B. Phipson and G. K. Smyth, Permutation
    P-values should never be zero, 2010).
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    found = ratio(differences.tolist(), [1.0] * len(differences) if sizes is None else sizes)
    if found is None:
        return None
    error = found.standard_error or None
    t = found.value / error if error else None
    return Difference(found.value, error, t, _sign_flip(differences, seed), len(differences))


def _sign_flip(differences: np.ndarray, seed: int) -> float:
    num_texts = len(differences)
    if num_texts <= MAX_EXACT:
        numbers = np.arange(2**num_texts)[:, None]
        signs, extra = 1 - 2 * ((numbers >> np.arange(num_texts)) & 1), 0
    else:
        signs, extra = np.random.default_rng(seed).choice([-1, 1], size=(NUM_DRAWS, num_texts)), 1
    observed = abs(differences.sum())
    # The same numbers summed in another order differ in the last digits.
    num_as_far = int((np.abs(signs @ differences) >= observed - 1e-9 * np.abs(differences).sum()).sum())
    return (num_as_far + extra) / (len(signs) + extra)
