"""Strengths of players from who beat whom (R. A. Bradley and M. E. Terry, 1952), with intervals.

A tie counts as half a win for each side. D draws, P players.
"""

# ruff: noqa: N803, N806  (names of arrays end with their shape)

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The scale of Elo: 400 points are ten to one. The mean of all players is put at 1,000.
POINTS = 400 / math.log(10)
MEAN = 1000.0
NUM_DRAWS = 1000
MAX_STEPS = 200
TOLERANCE = 1e-10
# Half a win and half a loss of each player against one whose strength is the mean. Without it strengths are not
# finite where somebody never lost (L. R. Ford, 1957); with it they move a little to the mean: the price of a row of
# numbers from the first vote on. Ten battles of equals hardly feel it.
PRIOR = 0.5


@dataclass(frozen=True, slots=True)
class Battle:
    """One comparison: `score` is 1 where the first won, 0 where the second did, a half for a tie."""

    first: str
    second: str
    score: float


@dataclass(frozen=True, slots=True)
class Rating:
    """A player's strength on the scale, and the 95 % interval of a bootstrap over battles."""

    player: str
    value: float
    low: float
    high: float
    num_battles: int


def rate(battles: Sequence[Battle], *, seed: int = 0) -> list[Rating]:
    """Ratings of all players, the strongest first.

    Players that never met, even through others, are only comparable through the prior, so ask `are_connected` first.
    Intervals are percentiles of 1,000 draws of as many battles, with replacement: they need no assumption about ties,
    and widen where votes contradict each other. With fewer than some ten battles a player they are too narrow.
    """
    if not battles:
        return []
    players, first_B, second_B, scores_B = _as_arrays(battles)
    rng = np.random.default_rng(seed)
    # How often each battle is drawn; the battles themselves are the first draw.
    shares_B = np.full(len(battles), 1 / len(battles))
    drawn_DB = rng.multinomial(len(battles), shares_B, size=NUM_DRAWS)
    times_DB = np.concatenate([np.ones((1, len(battles))), drawn_DB])
    points_DP = MEAN + POINTS * _strengths(_wins(first_B, second_B, scores_B, times_DB, len(players)))
    low_P, high_P = np.percentile(points_DP[1:], [2.5, 97.5], axis=0)
    counts_P = np.bincount(np.concatenate([first_B, second_B]), minlength=len(players))
    ratings = [
        Rating(player, float(points_DP[0, i]), float(low_P[i]), float(high_P[i]), int(counts_P[i]))
        for i, player in enumerate(players)
    ]
    return sorted(ratings, key=lambda rating: (-rating.value, rating.player))


def are_connected(battles: Sequence[Battle]) -> bool:
    """Whether every player can be compared with every other one through battles."""
    groups: list[set[str]] = []
    for battle in battles:
        touched = [group for group in groups if battle.first in group or battle.second in group]
        groups = [group for group in groups if group not in touched]
        groups.append({battle.first, battle.second}.union(*touched))
    return len(groups) <= 1


def expected_score(difference: float) -> float:
    """The share of battles that a player wins who is so many points stronger."""
    return 1 / (1 + math.exp(-difference / POINTS))


def _as_arrays(battles: Sequence[Battle]) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    players = sorted({name for battle in battles for name in (battle.first, battle.second)})
    number = {player: i for i, player in enumerate(players)}
    first_B = np.array([number[battle.first] for battle in battles], dtype=np.int64)
    second_B = np.array([number[battle.second] for battle in battles], dtype=np.int64)
    return players, first_B, second_B, np.array([battle.score for battle in battles], dtype=np.float64)


def _wins(
    first_B: np.ndarray, second_B: np.ndarray, scores_B: np.ndarray, times_DB: np.ndarray, num_players: int
) -> np.ndarray:
    """Wins_DPP: how often each player beat each other one in each draw, ties as halves."""
    wins_DQ = np.zeros((len(times_DB), num_players * num_players))
    for winner_B, loser_B, won_B in ((first_B, second_B, scores_B), (second_B, first_B, 1 - scores_B)):
        pairs_BQ = np.zeros((len(won_B), wins_DQ.shape[1]))
        pairs_BQ[np.arange(len(won_B)), winner_B * num_players + loser_B] = won_B
        wins_DQ += times_DB @ pairs_BQ
    return wins_DQ.reshape(len(times_DB), num_players, num_players)


def _strengths(wins_DPP: np.ndarray) -> np.ndarray:
    """Natural-log strengths_DP, each row with mean 0: Newton's method on the likelihood with its prior, concave."""
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
        # A step of more than two would overshoot far from the solution.
        longest_D1 = np.abs(step_DP).max(axis=1, keepdims=True)
        strengths_DP = strengths_DP + step_DP * np.minimum(1.0, 2 / np.maximum(longest_D1, TOLERANCE))
        if longest_D1.max() < TOLERANCE:
            break
    return strengths_DP - strengths_DP.mean(axis=1, keepdims=True)
