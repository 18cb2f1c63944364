"""Conversations, documents and dropped rows in Parquet: columns, reading and writing."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from baihua.chat.types import Message, Role
from baihua.core.errors import InputError

FILE = "conversations.parquet"
DOCUMENTS_FILE = "documents.parquet"
DROPPED_FILE = "dropped.parquet"

# The role of a document's only message, where documents are processed like conversations.
DOCUMENT = cast(Role, "document")

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("input", pa.string())])
_ORIGIN = [("id", pa.string()), ("source", pa.string()), ("file", pa.string()), ("line", pa.int64())]
SCHEMA = pa.schema([*_ORIGIN, ("group", pa.string()), ("messages", pa.list_(MESSAGE)), ("meta", pa.string())])
DOCUMENTS_SCHEMA = pa.schema([*_ORIGIN, ("group", pa.string()), ("text", pa.string()), ("meta", pa.string())])
DROPPED_SCHEMA = pa.schema([*_ORIGIN, ("reason", pa.string()), ("detail", pa.string()), ("row", pa.string())])
# Columns and file name of conversations (False) and documents (True).
LAYOUTS = {False: (SCHEMA, FILE), True: (DOCUMENTS_SCHEMA, DOCUMENTS_FILE)}

Reasons = Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation and where it came from. Rows of one `group` never end up on both sides of a split."""

    id: str
    messages: tuple[Message, ...]
    source: str = ""
    file: str = ""
    line: int = 0
    group: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


def message_id(messages: Sequence[Message]) -> str:
    """16 hex digits of the SHA-256 of the canonical messages."""
    canonical = [[m.role, m.content, m.input] for m in messages]
    return hashlib.sha256(json.dumps(canonical, ensure_ascii=False).encode()).hexdigest()[:16]


def message_items(messages: Iterable[Message]) -> list[dict[str, str | None]]:
    """Messages as values of the column `messages`."""
    return [{"role": m.role, "content": m.content, "input": m.input} for m in messages]


def number_repeats(ids: Iterable[str]) -> Iterator[str]:
    """Unique ids: the second occurrence of an id gets `-2`, the third `-3`."""
    seen: Counter[str] = Counter()
    for row_id in ids:
        seen[row_id] += 1
        yield row_id if seen[row_id] == 1 else f"{row_id}-{seen[row_id]}"


def row_counts(num_in: int, num_kept: int, *, dropped: Reasons = None, added: Reasons = None) -> dict[str, Any]:
    """The counts that every data stage reports: rows in + rows added = rows kept + rows dropped.

    Dropped and added rows are counted by reason; a reason without rows is left out.
    """
    by_reason = {"num_rows_dropped": dropped, "num_rows_changed": None, "num_rows_added": added}
    counts = {name: {why: n for why, n in (found or {}).items() if n} for name, found in by_reason.items()}
    return {"num_rows_in": num_in, "num_rows_kept": num_kept, **counts}


def write_rows(rows: Iterable[Row], folder: Path) -> None:
    """Write `conversations.parquet` into a folder."""
    records = [asdict(row) | {"meta": json.dumps(row.meta, ensure_ascii=False)} for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records, schema=SCHEMA), folder / FILE, compression="zstd")


def write_no_dropped(folder: Path) -> None:
    """Write an empty `dropped.parquet` into a folder."""
    pq.write_table(DROPPED_SCHEMA.empty_table(), folder / DROPPED_FILE, compression="zstd")


def find_table(path: Path) -> Path:
    """The Parquet file of a data artifact's folder, or the file itself; its columns are checked."""
    files = [path, *(path / name for _, name in LAYOUTS.values())]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        parts = sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
        fix = f"name one of its parts: {', '.join(parts)}" if parts else "use the output of import_data or split"
        raise InputError("no conversations or documents found", where=str(path), fix=fix)
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        fix = "import other files first: baihua do import_data files=[FILE] --out DIR"
        raise InputError(f"not a readable Parquet file: {error}", where=str(file), fix=fix) from error
    expected, _ = LAYOUTS["text" in schema.names]
    if missing := sorted(set(expected.names) - set(schema.names)):
        raise InputError(f"columns are missing: {', '.join(missing)}", where=str(file), fix="import the data again")
    return file


def holds_documents(file: Path) -> bool:
    """Whether a table holds documents rather than conversations."""
    return "text" in pq.read_schema(file).names


def read_rows(path: Path, *, limit: int | None = None) -> list[Row]:
    """Conversations of a data artifact's folder or of one Parquet file with the same columns; the first `limit`."""
    file = find_table(path)
    if holds_documents(file):
        raise InputError("expected conversations, found documents", where=str(file), fix="name other data")
    records = read_values(file, limit=limit)
    for record in records:
        record["messages"] = tuple(Message(**message) for message in record["messages"])
        record["meta"] = json.loads(record["meta"])
    return [Row(**{name: record[name] for name in SCHEMA.names}) for record in records]


def read_values(file: Path, *, limit: int | None = None) -> list[dict[str, Any]]:
    """Rows of a Parquet file as plain values; the first `limit`."""
    with pq.ParquetFile(file) as parquet:
        records = (record for batch in parquet.iter_batches(limit or 65_536) for record in batch.to_pylist())
        return list(itertools.islice(records, limit))
