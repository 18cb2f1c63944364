"""Conversations at rest: one row each, in Parquet."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
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

# The role of a document's one message, where documents and conversations are worked on alike.
DOCUMENT = cast(Role, "document")

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("input", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("group", pa.string()),
        ("messages", pa.list_(MESSAGE)),
        ("meta", pa.string()),
    ]
)
DOCUMENTS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("group", pa.string()),
        ("text", pa.string()),
        ("meta", pa.string()),
    ]
)
DROPPED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("row", pa.string()),
    ]
)


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


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was left out, and why."""

    file: str
    line: int
    reason: str
    detail: str
    row: str
    source: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a format reads out of a record: a conversation or a document's text, and what to remember beside it."""

    messages: Sequence[Message] = ()
    text: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bad:
    """Why a record cannot become a conversation: a short reason that is counted, and what was seen."""

    reason: str
    detail: str = ""


def find_fault(messages: Sequence[Message], *, has_answers: bool = True) -> Bad | None:
    """What keeps a conversation from being trained on, if anything.

    Wanted: an optional system message, then user and assistant in turn, assistant last, no empty text. Without
    answers (an evaluation's questions) the user is last.
    """
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    if has_answers and not any(message.role == "assistant" for message in turns):
        return Bad("no_assistant_turn", f"{len(messages)} messages, none of the assistant")
    for number, message in enumerate(turns):
        wanted = "assistant" if number % 2 else "user"
        if message.role != wanted:
            return Bad("roles_out_of_order", f"turn {number + 1} is {message.role!r}, expected {wanted!r}")
        if not message.content.strip():
            return Bad("empty_text", f"turn {number + 1} ({message.role}) is empty")
    if len(turns) % 2 == has_answers:
        return Bad("ends_with_user", "the last turn has no answer") if has_answers else Bad("no_question")
    return None


def message_id(messages: Sequence[Message]) -> str:
    """16 hex digits of the SHA-256 of the canonical messages."""
    canonical = [[m.role, m.content, m.input] for m in messages]
    return hashlib.sha256(json.dumps(canonical, ensure_ascii=False).encode()).hexdigest()[:16]


def number_repeats(ids: Iterable[str]) -> list[str]:
    """Ids made unique: the second of the same gets `-2`, the third `-3`."""
    seen: Counter[str] = Counter()
    unique: list[str] = []
    for row_id in ids:
        seen[row_id] += 1
        unique.append(row_id if seen[row_id] == 1 else f"{row_id}-{seen[row_id]}")
    return unique


def write_rows(rows: Sequence[Row], folder: Path) -> None:
    """Write `conversations.parquet` into a folder."""
    records = [
        {
            "id": row.id,
            "source": row.source,
            "file": row.file,
            "line": row.line,
            "group": row.group,
            "messages": [{"role": m.role, "content": m.content, "input": m.input} for m in row.messages],
            "meta": json.dumps(row.meta, ensure_ascii=False),
        }
        for row in rows
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records, schema=SCHEMA), folder / FILE, compression="zstd")


def write_dropped(dropped: Sequence[Dropped], folder: Path) -> None:
    """Write `dropped.parquet` into a folder."""
    records = [asdict(row) for row in dropped]
    pq.write_table(pa.Table.from_pylist(records, schema=DROPPED_SCHEMA), folder / DROPPED_FILE, compression="zstd")


def find_table(path: Path) -> Path:
    """The Parquet file of a data artifact's folder, or the file itself; its columns are checked."""
    names = (FILE, DOCUMENTS_FILE)
    file = path if path.is_file() else next((path / name for name in names if (path / name).is_file()), None)
    if file is None:
        parts = sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
        fix = f"name one of its parts: {', '.join(parts)}" if parts else "use the output of import_data or split"
        raise InputError("there are no conversations or documents here", where=str(path), fix=fix)
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"this is not a readable Parquet file: {error}",
            where=str(file),
            fix="import other files first: baihua do import_data files=[FILE] --out DIR",
        ) from error
    wanted = DOCUMENTS_SCHEMA if "text" in schema.names else SCHEMA
    missing = sorted(set(wanted.names) - set(schema.names))
    if missing:
        raise InputError(f"columns are missing: {', '.join(missing)}", where=str(file))
    return file


def read_rows(path: Path, *, limit: int | None = None) -> list[Row]:
    """Rows of a data artifact's folder, or of one Parquet file with the same columns; the first ones with `limit`."""
    file = find_table(path)
    if "text" in pq.read_schema(file).names:
        raise InputError("these are documents, conversations are wanted", where=str(file), fix="name other data")
    return [
        Row(
            id=record["id"],
            source=record["source"],
            file=record["file"],
            line=record["line"],
            group=record["group"],
            messages=tuple(Message(m["role"], m["content"], m["input"]) for m in record["messages"]),
            meta=json.loads(record["meta"]),
        )
        for record in read_values(file, limit=limit)
    ]


def read_values(file: Path, *, limit: int | None = None) -> list[dict[str, Any]]:
    """Rows of a Parquet file as plain values, all or the first."""
    with pq.ParquetFile(file) as parquet:
        batches = parquet.iter_batches(limit) if limit else parquet.iter_batches()
        return [record for batch in itertools.islice(batches, 1 if limit else None) for record in batch.to_pylist()]
