"""What the votes say: ratings with intervals, and who beat whom."""

from collections.abc import Mapping, Sequence
from typing import Any

from baihua.statistics.bradley_terry import Battle, are_connected, rate

SCORES = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
# The page says these in its reader's language.
NOTES = {
    "not_connected": "some models never met, not even through others: their ratings cannot be compared",
    "few_votes": "with few votes the intervals are too narrow; 30 for each pair are a beginning",
}
FEW_VOTES = 30


def make_table(votes: Sequence[Mapping[str, Any]], models: Sequence[str] = ()) -> dict[str, Any]:
    """The table as the page shows it, with the name of a note; models without a vote stand last, without numbers."""
    battles = [Battle(vote["model_a"], vote["model_b"], SCORES[vote["vote"]]) for vote in votes]
    ratings = rate(battles)
    rows = [
        {"rank": rank, "model": one.player, "rating": one.value, "low": one.low, "high": one.high}
        | _counts(votes, one.player)
        for rank, one in enumerate(ratings, 1)
    ]
    absent = [model for model in models if model not in {one.player for one in ratings}]
    rows += [
        {"rank": len(ratings) + 1, "model": model, "rating": None, "low": None, "high": None} | _counts(votes, model)
        for model in absent
    ]
    note = None if are_connected(battles) else "not_connected"
    note = note or ("few_votes" if 0 < len(battles) < FEW_VOTES else None)
    return {"num_votes": len(votes), "rows": rows, "pairs": _pairs(votes), "note": note}


def _counts(votes: Sequence[Mapping[str, Any]], model: str) -> dict[str, int]:
    mine = [vote for vote in votes if model in (vote["model_a"], vote["model_b"])]
    won = [vote for vote in mine if vote["vote"] in ("a", "b") and vote[f"model_{vote['vote']}"] == model]
    ties, bad = (sum(vote["vote"] == name for vote in mine) for name in ("tie", "both_bad"))
    return {
        "num_battles": len(mine),
        "num_wins": len(won),
        "num_losses": len(mine) - len(won) - ties - bad,
        "num_ties": ties,
        "num_both_bad": bad,
    }


def _pairs(votes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for vote in votes:
        first, second = sorted((vote["model_a"], vote["model_b"]))
        pair = found.setdefault(
            (first, second), {"a": first, "b": second, "a_wins": 0, "b_wins": 0, "ties": 0, "both_bad": 0}
        )
        names = {"tie": "ties", "both_bad": "both_bad"}
        winner = vote.get(f"model_{vote['vote']}")
        pair[names.get(vote["vote"]) or ("a_wins" if winner == first else "b_wins")] += 1
    return [found[key] for key in sorted(found)]
