"""Ratings against the likelihood maximized by scipy, and their symmetries."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from baihua.statistics.bradley_terry import MEAN, POINTS, PRIOR, Comparison, are_connected, rate

COMPARISONS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), st.sampled_from([0.0, 0.5, 1.0])).filter(
        lambda one: one[0] != one[1]
    ),
    min_size=1,
    max_size=30,
).map(lambda found: [Comparison(*one) for one in found])


def by_scipy(comparisons: list[Comparison]) -> dict[str, float]:
    """The same likelihood, maximized without derivatives."""
    players = sorted({name for one in comparisons for name in (one.first, one.second)})

    def cost(strengths: np.ndarray) -> float:
        of = dict(zip(players, strengths, strict=True))
        found = sum(PRIOR * (math.log1p(math.exp(s)) + math.log1p(math.exp(-s))) for s in strengths)
        for one in comparisons:
            difference = of[one.first] - of[one.second]
            found += one.score * math.log1p(math.exp(-difference))
            found += (1 - one.score) * math.log1p(math.exp(difference))
        return found

    best = minimize(cost, np.zeros(len(players)), tol=1e-12).x
    return dict(zip(players, MEAN + POINTS * (best - best.mean()), strict=True))


@settings(max_examples=25, deadline=None)
@given(COMPARISONS)
def test_strengths_maximize_the_likelihood(comparisons: list[Comparison]) -> None:
    wanted = by_scipy(comparisons)
    assert {one.player: one.value for one in rate(comparisons)} == pytest.approx(wanted, abs=0.1)


@settings(max_examples=15, deadline=None)
@given(COMPARISONS, st.randoms())
def test_neither_order_nor_names_nor_sides_matter(comparisons: list[Comparison], rng: random.Random) -> None:
    plain = {one.player: one.value for one in rate(comparisons)}
    shuffled = rng.sample(comparisons, len(comparisons))
    assert {one.player: one.value for one in rate(shuffled)} == pytest.approx(plain, abs=1e-6)
    turned = [Comparison(one.second, one.first, 1 - one.score) for one in comparisons]
    assert {one.player: one.value for one in rate(turned)} == pytest.approx(plain, abs=1e-6)
    renamed = [Comparison("z" + one.first, "z" + one.second, one.score) for one in comparisons]
    assert {one.player[1:]: one.value for one in rate(renamed)} == pytest.approx(plain, abs=1e-6)


def test_two_players_differ_by_the_logarithm_of_their_odds() -> None:
    """Three to one of many: 191 points, less what the prior takes."""
    comparisons = [Comparison("a", "b", 1.0)] * 3000 + [Comparison("a", "b", 0.0)] * 1000
    strong, weak = rate(comparisons)
    assert (strong.player, weak.player) == ("a", "b")
    assert strong.value - weak.value == pytest.approx(POINTS * math.log(3), abs=0.2)
    assert 1 / (1 + math.exp((weak.value - strong.value) / POINTS)) == pytest.approx(0.75, abs=0.001)
    assert (strong.value + weak.value) / 2 == pytest.approx(MEAN)


def test_a_player_who_never_lost_has_a_finite_rating() -> None:
    strong, weak = rate([Comparison("a", "b", 1.0)] * 5)
    assert math.isfinite(strong.value) and strong.value > weak.value
    assert rate([]) == []


def test_intervals_cover_the_truth_about_95_percent_of_the_time() -> None:
    """60 votes between three players, 60 times: 95 % intervals of the difference from the mean."""
    truth = {"a": 0.5, "b": 0.0, "c": -0.5}
    rng = random.Random(1)
    num_held = 0
    for number in range(60):
        comparisons = []
        for _ in range(60):
            first, second = rng.sample(sorted(truth), 2)
            chance = 1 / (1 + math.exp(truth[second] - truth[first]))
            comparisons.append(Comparison(first, second, float(rng.random() < chance)))
        found = {one.player: one for one in rate(comparisons, seed=number)}
        num_held += sum(found[p].low <= MEAN + POINTS * s <= found[p].high for p, s in truth.items())
    assert 0.90 <= num_held / 180 <= 0.99


def test_players_that_never_met_are_not_connected() -> None:
    apart = [Comparison("a", "b", 1.0), Comparison("c", "d", 0.5)]
    assert not are_connected(apart)
    assert are_connected([*apart, Comparison("b", "c", 0.0)])
    assert are_connected([])
