"""Votes in a file, one line each; a line that is written is never lost, one that was torn never taken for a vote."""

import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from baihua.core.errors import InputError
from baihua.core.log import logger
from baihua.core.tree import is_mapping

VOTES = ("a", "b", "tie", "both_bad")
NEEDED = ("model_a", "model_b", "vote")


class Votes:
    """The votes of a file, and new ones at its end. One process at a time has it."""

    def __init__(self, file: Path) -> None:
        """Read what is there; an InputError where another arena has the file, or it holds something else."""
        self._file = file
        self._lock = FileLock(f"{file}.lock", thread_local=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                "another arena writes votes into this file", where=str(file), fix="stop it, or name another --votes"
            ) from error
        self.rows = read_votes(file)
        self._stream = file.open("ab")
        # After a kill in the middle of a line the next vote must not become a part of it.
        if file.stat().st_size and not _ends_with_newline(file):
            self._stream.write(b"\n")

    def add(self, row: dict[str, Any]) -> None:
        """Write a vote; it is on the disk when this returns."""
        self._stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.rows.append(row)

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()
        self._lock.release()


def read_votes(file: Path) -> list[dict[str, Any]]:
    """All whole votes of a file, in order; a torn line is passed over with a warning."""
    if not file.is_file():
        return []
    rows: list[dict[str, Any]] = []
    lines = file.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            logger.warning("%s:%d: a vote that was not written to its end is left out", file, number)
            continue
        if not is_mapping(row) or any(name not in row for name in NEEDED) or row["vote"] not in VOTES:
            raise InputError("this is no vote", where=f"{file}:{number}", fix="name another file: --votes FILE")
        rows.append(dict(row))
    return rows


def _ends_with_newline(file: Path) -> bool:
    with file.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
