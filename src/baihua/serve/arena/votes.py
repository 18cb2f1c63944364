"""The vote file, one JSON line per vote: a vote is on disk before it is confirmed, and a torn line is skipped."""

import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from baihua.core.errors import InputError
from baihua.core.files import is_mapping
from baihua.core.log import logger

VOTES = ("a", "b", "tie", "both_bad")
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
            raise InputError(
                "another arena is writing to this vote file", where=str(file), fix="stop it, or use another --votes"
            ) from error
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
        if not is_mapping(row) or not row.keys() >= REQUIRED or row["vote"] not in VOTES:
            fix = "use another vote file: --votes FILE"
            raise InputError(f"not a vote: expected {', '.join(sorted(REQUIRED))}", where=f"{file}:{number}", fix=fix)
        rows.append(dict(row))
    return rows
