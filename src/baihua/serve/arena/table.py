"""The ranking: ratings with intervals, and results of each pair of models."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from baihua.statistics.bradley_terry import Comparison, are_connected, rate

SCORES = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
# The page has its own texts for these, in both languages.
NOTES = {
    "not_connected": "some models never met, not even through others: their ratings cannot be compared",
    "few_votes": "with few votes the intervals are too narrow; collect at least 30 per pair",
}
FEW_VOTES = 30


def make_table(votes: Sequence[Mapping[str, Any]], models: Sequence[str] = ()) -> dict[str, Any]:
    """The ranking as JSON, with the key of a note; models without a vote come last, without ratings."""
    comparisons = [Comparison(vote["model_a"], vote["model_b"], SCORES[vote["vote"]]) for vote in votes]
    ratings = rate(comparisons)
    rows = [
        {"rank": rank, "model": one.player, "rating": one.value, "low": one.low, "high": one.high}
        for rank, one in enumerate(ratings, 1)
    ]
    unrated = {"rank": len(ratings) + 1, "rating": None, "low": None, "high": None}
    rows += [unrated | {"model": model} for model in models if model not in {one.player for one in ratings}]
    note = None if are_connected(comparisons) else "not_connected"
    note = note or ("few_votes" if 0 < len(comparisons) < FEW_VOTES else None)
    rows = [row | _counts(votes, row["model"]) for row in rows]
    return {"num_votes": len(votes), "rows": rows, "pairs": _pairs(votes), "note": note}


def _outcome(vote: Mapping[str, Any], model: str) -> str:
    """`ties`, `both_bad`, `wins` or `losses`: how a vote went for one of its models."""
    if vote["vote"] in ("tie", "both_bad"):
        return {"tie": "ties", "both_bad": "both_bad"}[vote["vote"]]
    return "wins" if vote[f"model_{vote['vote']}"] == model else "losses"


def _counts(votes: Sequence[Mapping[str, Any]], model: str) -> dict[str, int]:
    found = Counter(_outcome(vote, model) for vote in votes if model in (vote["model_a"], vote["model_b"]))
    names = ("wins", "losses", "ties", "both_bad")
    return {"num_battles": found.total()} | {f"num_{name}": found[name] for name in names}


def _pairs(votes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], Counter[str]] = {}
    for vote in votes:
        a, b = sorted((vote["model_a"], vote["model_b"]))
        found.setdefault((a, b), Counter()).update([_outcome(vote, a)])
    keys = {"a_wins": "wins", "b_wins": "losses", "ties": "ties", "both_bad": "both_bad"}
    return [
        {"a": a, "b": b} | {key: counts[name] for key, name in keys.items()} for (a, b), counts in sorted(found.items())
    ]
