"""Files of any format become rows; every record that cannot is kept with its reason."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from baihua.chat.types import Message
from baihua.core.errors import InputError
from baihua.data.files import Record, read_records
from baihua.data.rows import Bad, Dropped, Row, find_fault, message_id, number_repeats

Convert = Callable[[dict[str, Any]], list[list[Message]] | Bad]


@dataclass(frozen=True, slots=True)
class Rows:
    """What was read: `num_records` in, and each of them in one of the two lists (some formats give two rows)."""

    num_records: int
    kept: list[Row]
    dropped: list[Dropped]


def read_files(
    files: list[Path], convert: Convert, *, bad_rows: Literal["stop", "drop"], limit: int | None = None
) -> Rows:
    """Read rows of files in order, at most `limit` records; a bad record stops everything or is set aside.

    Raises InputError for the first bad record (with `stop`), or when no record at all is usable.
    """
    kept: list[Row] = []
    dropped: list[Dropped] = []
    num_records = 0
    for record in _first(files, limit):
        num_records += 1
        rows = _convert(record, convert)
        if isinstance(rows, Bad) and bad_rows == "stop":
            raise InputError(
                f"this row cannot be used: {_sentence(rows)}",
                where=f"{record.file}:{record.line}",
                fix="mend the row, or set `bad_rows: drop` to leave such rows out (they are listed in dropped.parquet)",
            )
        if isinstance(rows, Bad):
            dropped.append(
                Dropped(
                    record.file.name, record.line, rows.reason, rows.detail, record.raw, source=_source(record.file)
                )
            )
        else:
            kept += rows
    if not kept:
        raise InputError(
            f"no usable row in {num_records:,} records",
            where=", ".join(str(file) for file in files[:3]),
            fix=f"the first one was dropped because: {dropped[0].reason} ({dropped[0].detail})"
            if dropped
            else "the data is empty; check the files",
        )
    ids = number_repeats(row.id for row in kept)
    return Rows(num_records, [_with_id(row, row_id) for row, row_id in zip(kept, ids, strict=True)], dropped)


def _first(files: list[Path], limit: int | None) -> Iterator[Record]:
    left = limit
    for file in files:
        for record in read_records(file):
            if left == 0:
                return
            left = None if left is None else left - 1
            yield record


def _convert(record: Record, convert: Convert) -> list[Row] | Bad:
    if record.value is None:
        return Bad("not_json", record.fault)
    conversations = convert(record.value)
    if isinstance(conversations, Bad):
        return conversations
    faults = [fault for messages in conversations if (fault := find_fault(messages))]
    if faults:
        return faults[0]
    group = record.value.get("group")
    return [
        Row(
            id=message_id(messages),
            messages=tuple(messages),
            source=_source(record.file),
            file=record.file.name,
            line=record.line,
            group=group if isinstance(group, str) else message_id(messages),
        )
        for messages in conversations
    ]


def _with_id(row: Row, row_id: str) -> Row:
    return Row(row_id, row.messages, row.source, row.file, row.line, row.group, row.meta)


def _source(file: Path) -> str:
    return file.name.split(".")[0]


def _sentence(bad: Bad) -> str:
    return f"{bad.reason} ({bad.detail})" if bad.detail else bad.reason
