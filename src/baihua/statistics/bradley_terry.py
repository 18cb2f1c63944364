"""Bradley-Terry ratings: strengths of players from pairwise comparisons (R. A. Bradley and M. E. Terry, 1952).

A tie counts as half a win for each side. C comparisons, D draws, P players.
"""

# ruff: noqa: N803, N806  (names of arrays end with their shape)

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The scale of Elo: 400 points are odds of ten to one. The mean of all players is set to 1,000.
POINTS = 400 / math.log(10)
MEAN = 1000.0
NUM_DRAWS = 1000
MAX_STEPS = 200
TOLERANCE = 1e-10
# Half a win and half a loss of each player against one of mean strength. Without it the strength of a player who never
# lost is not finite (L. R. Ford, 1957), so this is the price of ratings from the first vote on: strengths move slightly
# towards the mean, hardly at all after ten comparisons of equals.
PRIOR = 0.5


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of two players: `score` is 1 where the first won, 0 where the second did, a half for a tie."""

    first: str
    second: str
    score: float


@dataclass(frozen=True, slots=True)
class Rating:
    """A player's strength on the scale, with the 95 % interval of a bootstrap over comparisons."""

    player: str
    value: float
    low: float
    high: float


def rate(comparisons: Sequence[Comparison], *, seed: int = 0) -> list[Rating]:
    """Ratings of all players, the strongest first.

    Players without any chain of comparisons between them are only comparable through the prior: see `are_connected`.
    Intervals are percentiles of 1,000 bootstrap draws, which need no assumption about ties and widen where votes
    contradict each other. With fewer than about ten comparisons per player they are too narrow.
    """
    if not comparisons:
        return []
    players, indices = np.unique([(one.first, one.second) for one in comparisons], return_inverse=True)
    pairs_C2 = indices.reshape(-1, 2)
    scores_C = np.array([one.score for one in comparisons])
    rng = np.random.default_rng(seed)
    # How often each comparison is drawn; the comparisons themselves are the first draw.
    shares_C = np.full(len(comparisons), 1 / len(comparisons))
    drawn_DC = rng.multinomial(len(comparisons), shares_C, size=NUM_DRAWS)
    times_DC = np.concatenate([np.ones((1, len(comparisons))), drawn_DC])
    points_DP = MEAN + POINTS * _strengths(_wins(pairs_C2, scores_C, times_DC, len(players)))
    low_P, high_P = np.percentile(points_DP[1:], [2.5, 97.5], axis=0)
    columns = (one.tolist() for one in (players, points_DP[0], low_P, high_P))
    ratings = [Rating(*values) for values in zip(*columns, strict=True)]
    return sorted(ratings, key=lambda rating: (-rating.value, rating.player))


def are_connected(comparisons: Sequence[Comparison]) -> bool:
    """Whether a chain of comparisons connects every two players."""
    groups: list[set[str]] = []
    for one in comparisons:
        touched = [group for group in groups if one.first in group or one.second in group]
        groups = [group for group in groups if group not in touched]
        groups.append({one.first, one.second}.union(*touched))
    return len(groups) <= 1


def _wins(pairs_C2: np.ndarray, scores_C: np.ndarray, times_DC: np.ndarray, num_players: int) -> np.ndarray:
    """Wins_DPP: how often each player beat each other one in each draw, ties as halves."""
    first_C, second_C = pairs_C2.T
    numbers = np.arange(len(scores_C))
    wins_CPP = np.zeros((len(scores_C), num_players, num_players))
    wins_CPP[numbers, first_C, second_C] = scores_C
    wins_CPP[numbers, second_C, first_C] = 1 - scores_C
    return np.tensordot(times_DC, wins_CPP, axes=1)


def _strengths(wins_DPP: np.ndarray) -> np.ndarray:
    """Natural-log strengths_DP, each row with mean 0: Newton's method on the concave likelihood with its prior."""
    games_DPP = wins_DPP + wins_DPP.transpose(0, 2, 1)
    total_DP = wins_DPP.sum(axis=2)
    strengths_DP = np.zeros(total_DP.shape)
    diagonal = np.eye(total_DP.shape[1])
    for _ in range(MAX_STEPS):
        chances_DPP = 1 / (1 + np.exp(strengths_DP[:, None, :] - strengths_DP[:, :, None]))
        prior_DP = 1 / (1 + np.exp(-strengths_DP))
        gradient_DP = total_DP - (games_DPP * chances_DPP).sum(axis=2) + PRIOR - 2 * PRIOR * prior_DP
        weights_DPP = games_DPP * chances_DPP * (1 - chances_DPP)
        own_DP = weights_DPP.sum(axis=2) + 2 * PRIOR * prior_DP * (1 - prior_DP)
        curvature_DPP = own_DP[:, :, None] * diagonal - weights_DPP
        step_DP = np.linalg.solve(curvature_DPP, gradient_DP[:, :, None])[:, :, 0]
        # A step of more than two would overshoot the solution by far.
        longest_D1 = np.abs(step_DP).max(axis=1, keepdims=True)
        strengths_DP = strengths_DP + step_DP * np.minimum(1.0, 2 / np.maximum(longest_D1, TOLERANCE))
        if longest_D1.max() < TOLERANCE:
            break
    return strengths_DP - strengths_DP.mean(axis=1, keepdims=True)
