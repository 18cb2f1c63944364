"""Reading and writing of JSON and JSON Lines, and files that are written completely or not at all."""

import errno
import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from baihua.core.errors import InputError


def is_mapping(value: object) -> TypeGuard[dict[Any, Any]]:
    """Whether a value of JSON or YAML is a mapping; its keys and values are not checked."""
    return isinstance(value, dict)


def is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether a value of JSON or YAML is a list or tuple."""
    return isinstance(value, list | tuple)


def read_jsonl(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number (from 1) and object of each line that is not blank."""
    try:
        with file.open(encoding="utf-8-sig") as stream:
            lines = ((number, line) for number, line in enumerate(stream, start=1) if line.strip())
            yield from ((number, _parse(line, where=f"{file}:{number}")) for number, line in lines)
    except UnicodeDecodeError as error:
        what = f"the file is not UTF-8: {error.reason} at byte {error.start}"
        raise InputError(what, where=str(file), fix="convert it to UTF-8") from error


def write_jsonl(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one object per line; see `appearing`."""
    with appearing(file) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_json(file: Path, value: Any) -> None:
    """Write an indented JSON file; see `appearing`."""
    write_text(file, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a text in UTF-8 with line feeds; see `appearing`."""
    with appearing(file) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def appearing(file: Path, *, is_shared: bool = False) -> Generator[Path]:
    """A temporary path to write to; it is renamed to `file` at the end, and removed after an error.

    The data is synced before the rename: a kill or a power cut leaves the old file or the new one, never half of one.
    An existing file keeps its permissions. `is_shared` is for a file that several processes may write at the same
    time: each gets its own temporary path.
    """
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial" if is_shared else f"{file.name}.partial")
    if file.exists():
        partial.touch()
        partial.chmod(file.stat().st_mode)
    try:
        yield partial
        sync(partial)
        partial.replace(file)
    except OSError as error:
        if error.errno is None:
            # numpy reports only how many numbers it could not write.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Force a file's data, or the names in a folder, onto the disk; Windows cannot open folders."""
    if path.is_dir() and os.name != "posix":
        return
    # Windows syncs only what is open for writing.
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _parse(line: str, *, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.rstrip())
    except json.JSONDecodeError as error:
        what = f"this line is not valid JSON: {error.msg} at column {error.colno}"
        fix = "correct or remove the line; JSON Lines has one complete object per line"
        raise InputError(what, where=where, fix=fix) from error
    if not is_mapping(value):
        what = f"expected a JSON object, found {type(value).__name__}"
        raise InputError(what, where=where, fix="write one object per line")
    return value
