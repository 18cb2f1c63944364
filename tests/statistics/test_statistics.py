"""Means of clusters against simulation, and the paired test against enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baihua.statistics.clusters import mean, ratio
from baihua.statistics.paired import compare_paired

NUMBERS = st.lists(st.floats(-100, 100), min_size=2, max_size=8)


def test_clusters_of_one_size_are_an_ordinary_mean() -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    found = mean(values)
    assert found and found.standard_error is not None
    assert (found.value, found.num_clusters) == (pytest.approx(np.mean(values)), 5)
    assert found.standard_error == pytest.approx(np.std(values, ddof=1) / 5**0.5)


def test_the_error_of_a_ratio_is_its_spread_over_many_draws() -> None:
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(1500):
        sizes = rng.integers(20, 200, size=60).astype(float)
        level = rng.normal(2, 0.5, size=60)  # a cluster's own mean: its positions are alike
        found = ratio((sizes * level).tolist(), sizes.tolist())
        assert found and found.standard_error is not None
        values.append(found.value)
        errors.append(found.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.06)


def test_clusters_widen_the_error() -> None:
    clusters = ratio([10.0, 0.0, 10.0, 0.0], [10.0] * 4)
    single = mean([1.0] * 10 + [0.0] * 10 + [1.0] * 10 + [0.0] * 10)
    assert clusters and single and clusters.standard_error and single.standard_error
    assert clusters.standard_error > 3 * single.standard_error


def test_an_unknown_mean_or_error_is_none() -> None:
    assert mean([]) is None
    assert ratio([1.0, 2.0], [0.0, 0.0]) is None
    one = mean([2.0])
    assert one and (one.value, one.standard_error) == (2.0, None)
    assert compare_paired([], []) is None


@given(NUMBERS)
def test_a_few_texts_are_tested_with_all_signs(differences: list[float]) -> None:
    found = compare_paired(differences, [0.0] * len(differences))
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=len(differences))]
    limit = abs(sum(differences)) - 1e-9 * sum(map(abs, differences))
    assert found and found.p == pytest.approx(np.mean([total >= limit for total in sums]))


def test_the_same_twice_does_not_differ() -> None:
    found = compare_paired([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert found and (found.value, found.standard_error, found.t, found.p) == (0.0, None, None, 1.0)


def test_a_clear_difference_is_found_and_no_difference_is_not() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=60)
    worse = (base + 0.5 + rng.normal(scale=0.3, size=60)).tolist()
    clear, none = compare_paired(worse, base.tolist()), compare_paired(rng.normal(size=60).tolist(), [0.0] * 60)
    assert clear and clear.t and clear.p == pytest.approx(1 / 10_001) and clear.t > 8
    assert none and none.p > 0.05


def test_chance_finds_a_difference_as_often_as_p_says() -> None:
    rng = np.random.default_rng(2)
    found = [compare_paired(rng.standard_normal(8).tolist(), [0.0] * 8) for _ in range(400)]
    assert np.mean([one is not None and one.p <= 0.1 for one in found]) == pytest.approx(0.1, abs=0.04)


def test_larger_texts_count_more() -> None:
    found = compare_paired([10.0, 0.0], [0.0, 1.0], [100.0, 1.0])
    assert found and found.value == pytest.approx(9 / 101)
