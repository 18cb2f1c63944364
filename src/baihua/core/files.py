"""JSON and JSON Lines with file and line in every error, and files that are written whole or not at all."""

import errno
import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from baihua.core.errors import InputError
from baihua.core.tree import is_mapping


def read_jsonl(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number (from 1) and object of each line that is not blank."""
    try:
        with file.open(encoding="utf-8-sig") as stream:
            lines = ((number, line) for number, line in enumerate(stream, start=1) if line.strip())
            yield from ((number, _parse(line, where=f"{file}:{number}")) for number, line in lines)
    except UnicodeDecodeError as error:
        raise InputError(
            f"the file is not UTF-8: {error.reason} at byte {error.start}", where=str(file), fix="convert it to UTF-8"
        ) from error


def write_jsonl(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one object per line."""
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file so that a kill leaves the old one or the new one, never half."""
    with appearing(file) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        json.dump(value, stream, ensure_ascii=False, indent=2)
        stream.write("\n")


@contextmanager
def appearing(file: Path) -> Generator[Path]:
    """A path to write to, which becomes `file` at the end and is gone after an error.

    The data is on the disk before the file has its name: after a power cut a file of that name is whole.
    """
    partial = file.with_name(file.name + ".partial")
    try:
        yield partial
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(file)
    except OSError as error:
        if error.errno is None:
            # numpy says only how many numbers it could not write.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def _parse(line: str, *, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.rstrip())
    except json.JSONDecodeError as error:
        raise InputError(
            f"this line is not valid JSON: {error.msg} at column {error.colno}",
            where=where,
            fix="mend or remove the line; JSON Lines has one complete object per line",
        ) from error
    if not is_mapping(value):
        raise InputError(
            f"expected a JSON object, found {type(value).__name__}", where=where, fix="write one object per line"
        )
    return value
