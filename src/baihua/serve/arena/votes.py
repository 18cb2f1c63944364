"""The vote file and the ranking from its votes.

The file has one JSON line per vote: a vote is on disk before it is confirmed, and a torn line is skipped.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from baihua.core.errors import InputError
from baihua.core.files import is_mapping
from baihua.core.log import logger
from baihua.statistics.bradley_terry import Comparison, are_connected, rate

SCORES = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
# The page has its own texts for these, in both languages.
NOTES = {
    "not_connected": "some models never met, not even through others: their ratings cannot be compared",
    "few_votes": "with few votes the intervals are too narrow; collect at least 30 per pair",
}
FEW_VOTES = 30
REQUIRED = {"model_a", "model_b", "vote"}


class Votes:
    """The votes of a file, to which new ones are appended. One process at a time holds its lock."""

    def __init__(self, file: Path) -> None:
        """Read the votes; an InputError if another arena holds the file, or it contains anything but votes."""
        self._lock = FileLock(f"{file}.lock", thread_local=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            fix = "stop it, or use another --votes"
            raise InputError("another arena is writing to this vote file", where=str(file), fix=fix) from error
        self.rows = read_votes(file)
        # A kill may have left half a line, which the next vote must not continue.
        is_torn = file.is_file() and not (file.read_bytes() or b"\n").endswith(b"\n")
        self._stream = file.open("ab")
        self._stream.write(b"\n" if is_torn else b"")

    def add(self, row: dict[str, Any]) -> None:
        """Append a vote; it is on disk when this returns."""
        self._stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.rows.append(row)

    def close(self) -> None:
        """Close the file and release its lock."""
        self._stream.close()
        self._lock.release()


def read_votes(file: Path) -> list[dict[str, Any]]:
    """All complete votes of a file, in order; an incomplete line is skipped with a warning."""
    if not file.is_file():
        return []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            logger.warning("%s:%d: skipped a vote that was not completely written", file, number)
            continue
        if not is_mapping(row) or not row.keys() >= REQUIRED or row["vote"] not in tuple(SCORES):
            fix = "use another vote file: --votes FILE"
            raise InputError(f"not a vote: expected {', '.join(sorted(REQUIRED))}", where=f"{file}:{number}", fix=fix)
        rows.append(dict(row))
    return rows


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
    for row in rows:
        model = row["model"]
        counts = Counter(_outcome(vote, model) for vote in votes if model in (vote["model_a"], vote["model_b"]))
        row["num_battles"] = counts.total()
        row.update({f"num_{name}": counts[name] for name in ("wins", "losses", "ties", "both_bad")})
    return {"num_votes": len(votes), "rows": rows, "pairs": _pairs(votes), "note": note}


def _outcome(vote: Mapping[str, Any], model: str) -> str:
    """`ties`, `both_bad`, `wins` or `losses`: how a vote went for one of its models."""
    if vote["vote"] in ("tie", "both_bad"):
        return {"tie": "ties", "both_bad": "both_bad"}[vote["vote"]]
    return "wins" if vote[f"model_{vote['vote']}"] == model else "losses"


def _pairs(votes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], Counter[str]] = {}
    for vote in votes:
        a, b = sorted((vote["model_a"], vote["model_b"]))
        found.setdefault((a, b), Counter()).update([_outcome(vote, a)])
    keys = {"a_wins": "wins", "b_wins": "losses", "ties": "ties", "both_bad": "both_bad"}
    return [
        {"a": a, "b": b} | {key: counts[name] for key, name in keys.items()} for (a, b), counts in sorted(found.items())
    ]
