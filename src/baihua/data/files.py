"""From what a recipe names to records: shipped sets, files, folders and patterns; JSON and JSON Lines, also .gz."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baihua.core.errors import InputError

STARTER = "starter:"
STARTER_FOLDER = Path(__file__).parent / "starter"
SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a file; `value` is None where the line is not one, and `fault` says why."""

    file: Path
    line: int
    value: dict[str, Any] | None
    raw: str
    fault: str = ""


def find_files(names: list[str]) -> list[Path]:
    """Files that the names of a recipe mean, sorted within each name; a name that finds nothing is an InputError."""
    return [file for name in names for file in _expand(name)]


def read_records(file: Path) -> Iterator[Record]:
    """Every object of a file, broken lines included; the line of a JSON array's object is its place from 1."""
    try:
        if file.name.removesuffix(".gz").endswith(".json") and _starts_with_bracket(file):
            yield from _read_array(file)
        else:
            yield from _read_lines(file)
    except UnicodeDecodeError as error:
        raise InputError(
            f"the file is not UTF-8: {error.reason} at byte {error.start}", where=str(file), fix="convert it to UTF-8"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"the compressed file is damaged: {error}", where=str(file), fix="fetch it again") from error


def _expand(name: str) -> list[Path]:
    if name.startswith(STARTER):
        wanted = name.removeprefix(STARTER)
        files = sorted(STARTER_FOLDER.glob(f"{wanted or '*'}.jsonl"))
        if not files:
            known = ", ".join(sorted(file.stem for file in STARTER_FOLDER.glob("*.jsonl")))
            raise InputError(f"the starter set has no category {wanted!r} (known: {known})", where=name)
        return files
    path = Path(name)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES))
    elif any(mark in name for mark in "*?["):
        anchor = Path(path.anchor)
        files = sorted(file for file in anchor.glob(str(path.relative_to(anchor))) if file.is_file())
    else:
        files = [path] if path.is_file() else []
    if not files:
        raise InputError(
            "no data file here", where=name, fix=f"name a file, folder or pattern of {', '.join(SUFFIXES)}"
        )
    unreadable = [file for file in files if not file.name.endswith(SUFFIXES)]
    if unreadable:
        raise InputError(
            f"cannot read files like {unreadable[0].name!r}", where=str(unreadable[0]), fix=f"use {', '.join(SUFFIXES)}"
        )
    return files


def _open(file: Path) -> Any:
    opener = gzip.open if file.suffix == ".gz" else open
    return opener(file, "rt", encoding="utf-8-sig")


def _starts_with_bracket(file: Path) -> bool:
    with _open(file) as stream:
        return stream.read(4096).lstrip().startswith("[")


def _read_array(file: Path) -> Iterator[Record]:
    with _open(file) as stream:
        try:
            values = json.load(stream)
        except json.JSONDecodeError as error:
            raise InputError(f"not valid JSON: {error.msg}", where=f"{file}:{error.lineno}") from error
    for number, value in enumerate(values, start=1):
        raw = json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()
        yield _record(file, number, value, raw)


def _read_lines(file: Path) -> Iterator[Record]:
    with _open(file) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            raw = line.rstrip()
            try:
                value = json.loads(raw)
            except json.JSONDecodeError as error:
                yield Record(file, number, None, raw, f"{error.msg} at column {error.colno}")
                continue
            yield _record(file, number, value, raw)


def _record(file: Path, number: int, value: Any, raw: str) -> Record:
    if not isinstance(value, dict):
        return Record(file, number, None, raw, f"expected an object, found {type(value).__name__}")
    if _has_half_character(value):
        return Record(file, number, None, raw, "half of a surrogate pair (\\ud800 to \\udfff) is no character")
    return Record(file, number, value, raw)


def _has_half_character(value: dict[str, Any]) -> bool:
    """JSON can spell half of a UTF-16 pair, which nothing can write as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
