"""Files of any format become rows; every record that cannot is kept with its reason.

In two steps. One process cuts the files into shards of records, which is mere reading. Then workers turn each
shard into rows. After a kill the first step starts again unless it was through; of the second only what is missing.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from baihua.chat.types import Message
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.core.files import write_json
from baihua.data.formats import auto
from baihua.data.read.files import Origin
from baihua.data.read.records import Record, parse, read_records
from baihua.data.rows import DOCUMENT, DROPPED_SCHEMA, SCHEMA, Bad, Draft, find_fault, message_id
from baihua.data.shards import NUM_SHARD_BYTES, NUM_SHARD_ROWS, write_shard
from baihua.data.workers import Piece

FORMATS = "baihua.data.formats"
AUTO = "auto"
# What a file is, is told by its first records.
NUM_DETECTION_RECORDS = 100
UNKNOWN = "unknown_format"

RAW = pa.schema(
    [("file", pa.int32()), ("line", pa.int64()), ("raw", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)

Convert = Callable[[dict[str, Any], Any], list[Draft] | Bad]


@dataclass
class _Raw:
    """Records that wait to be written as a shard."""

    folder: Path
    num_records: int = 0
    num_shards: int = 0
    num_bytes: int = 0
    rows: list[tuple[int, int, str, str, str]] = field(default_factory=list)

    def add(self, file: int, record: Record) -> None:
        self.rows.append((file, record.line, record.raw, record.reason, record.detail))
        self.num_records += 1
        self.num_bytes += len(record.raw)
        if len(self.rows) >= NUM_SHARD_ROWS or self.num_bytes >= NUM_SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        if self.rows:
            table = pa.table(dict(zip(RAW.names, map(list, zip(*self.rows, strict=True)), strict=True)), schema=RAW)
            pq.write_table(table, self.folder / f"{self.num_shards:05}.parquet", compression="lz4")
            self.num_shards += 1
        self.rows, self.num_bytes = [], 0


def cut(
    origins: Sequence[Origin], folder: Path, *, columns: Sequence[str], encoding: str, limit: int | None, kind: str
) -> dict[str, Any]:
    """Cut files into shards of at most `limit` records in all, and say what format each file has."""
    done = folder / "raw.json"
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    raw = _Raw(folder)
    files: list[dict[str, Any]] = []
    for origin in origins:
        for file in origin.files:
            left = None if limit is None else limit - raw.num_records
            if left == 0:
                break
            records = islice(read_records(file, columns=columns, encoding=encoding), left)
            first = list(islice(records, NUM_DETECTION_RECORDS))
            files.append(
                {
                    "path": str(file),
                    "name": file.name,
                    "source": origin.source or file.name.split(".")[0],
                    "licence": origin.licence,
                    "format": _detect(first) if kind == AUTO else kind,
                }
            )
            for record in (record for part in (first, records) for record in part):
                raw.add(len(files) - 1, record)
    raw.flush()
    found = {"files": files, "num_records": raw.num_records, "num_shards": raw.num_shards}
    write_json(done, found)
    return found


def pieces(folder: Path, out: Path, num_shards: int) -> list[Piece]:
    """The work of turning shards of records into shards of rows."""
    out.mkdir(parents=True, exist_ok=True)
    return [Piece(out / f"{n:05}", {"raw": str(folder / f"{n:05}.parquet")}) for n in range(num_shards)]


def read_piece(
    *, out: Path, raw: str, files: str, format: dict[str, Any], keep: list[str], stops: bool
) -> dict[str, Any]:
    """Turn one shard of records into a shard of rows; the counts.

    `files` names the record of `cut`; `keep` are keys of a record, dotted, that go into a row's meta.
    Raises InputError for the first bad record, if that `stops` the work.
    """
    known = json.loads(Path(files).read_text(encoding="utf-8"))["files"]
    converters = {entry["format"]: _converter(entry["format"], format) for entry in known}
    kept, dropped = _Columns(SCHEMA), _Columns(DROPPED_SCHEMA)
    num_documents = 0
    for number, line, text, reason, detail in zip(*pq.read_table(raw).to_pydict().values(), strict=True):
        file = known[number]
        drafts = Bad(reason, detail) if reason else _convert(text, converters[file["format"]], keep)
        if isinstance(drafts, Bad):
            if stops:
                raise _refusal(drafts, f"{file['path']}:{line}")
            dropped.add(None, file["source"], file["name"], line, drafts.reason, drafts.detail, text)
            continue
        for row_id, messages, group, meta in drafts:
            kept.add(row_id, file["source"], file["name"], line, group, messages, meta)
            num_documents += messages[0]["role"] == DOCUMENT
    write_shard(out, kept.table(), dropped.table())
    return {
        "num_rows": kept.num_rows,
        "num_documents": num_documents,
        "dropped": dict(Counter(dropped.columns["reason"])),
        "first_dropped": [dropped.columns[name][0] for name in ("reason", "detail")] if dropped.num_rows else [],
    }


class _Columns:
    """Rows of a table as they come in, column by column."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self.columns: dict[str, list[Any]] = {name: [] for name in schema.names}

    @property
    def num_rows(self) -> int:
        return len(next(iter(self.columns.values())))

    def add(self, *values: Any) -> None:
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)

    def table(self) -> pa.Table:
        return pa.table(self.columns, schema=self._schema)


Made = tuple[str, list[dict[str, Any]], str, str]


def _convert(text: str, convert: Callable[[dict[str, Any]], list[Draft] | Bad], keep: list[str]) -> list[Made] | Bad:
    """Rows of one record: id, messages, group and meta."""
    record = parse(text)
    if isinstance(record, str):
        return Bad("not_json", record)
    drafts = convert(record)
    if isinstance(drafts, Bad):
        return drafts
    kept = {key: value for key in keep if (value := _look_up(record, key)) is not None}
    group = record.get("group")
    made: list[Made] = []
    for draft in drafts:
        messages = draft.messages or [Message(DOCUMENT, draft.text or "")]
        row_id = message_id(messages)
        items = [{"role": m.role, "content": m.content, "input": m.input} for m in messages]
        meta = json.dumps(draft.meta | kept, ensure_ascii=False)
        made.append((row_id, items, group if isinstance(group, str) else row_id, meta))
    return made


def _converter(kind: str | None, config: dict[str, Any]) -> Callable[[dict[str, Any]], list[Draft] | Bad]:
    """The conversion of a format, with what every row must fulfil behind it."""
    if kind is None:
        return lambda record: Bad(UNKNOWN, f"no format has the keys {', '.join(record)}"[:300])
    module = kinds.find(FORMATS, kind)
    settings = module.Config.model_validate(config if config["kind"] == kind else {"kind": kind})
    has_answers = vars(module).get("HAS_ANSWERS", True)
    convert: Convert = module.convert

    def checked(record: dict[str, Any]) -> list[Draft] | Bad:
        drafts = convert(record, settings)
        if isinstance(drafts, Bad):
            return drafts
        faults = [fault for draft in drafts if (fault := _fault(draft, has_answers=has_answers))]
        return faults[0] if faults else drafts or Bad("no_text", "the record holds no row")

    return checked


def _fault(draft: Draft, *, has_answers: bool) -> Bad | None:
    if draft.text is None:
        return find_fault(draft.messages, has_answers=has_answers)
    return None if draft.text.strip() else Bad("empty_text", "the document is empty")


def _detect(records: list[Record]) -> str | None:
    values = [parse(record.raw) for record in records if not record.reason]
    return auto.detect([value for value in values if isinstance(value, dict)])


def _look_up(record: dict[str, Any], key: str) -> Any:
    """A record's value by its key, or by dotted keys inside."""
    if key in record:
        return record[key]
    head, _, rest = key.partition(".")
    below = record.get(head)
    return _look_up(below, rest) if rest and isinstance(below, dict) else None


def _refusal(bad: Bad, where: str) -> InputError:
    why = f"{bad.reason} ({bad.detail})" if bad.detail else bad.reason
    fixes = {UNKNOWN: "name its format and columns: format: {kind: alpaca, instruction: COLUMN, ...}"}
    fix = "mend the row, or set `bad_rows: drop` to leave such rows out (they are listed in dropped.parquet)"
    return InputError(f"this row cannot be used: {why}", where=where, fix=fixes.get(bad.reason, fix))


def check_usable(results: Iterator[dict[str, Any]], found: dict[str, Any]) -> list[dict[str, Any]]:
    """All results; refuses data of which nothing can be used, and a mix of conversations and documents."""
    done = list(results)
    where = ", ".join(file["path"] for file in found["files"][:3])
    num_rows = sum(result["num_rows"] for result in done)
    num_documents = sum(result["num_documents"] for result in done)
    if num_rows == 0:
        first = next((result["first_dropped"] for result in done if result["first_dropped"]), None)
        raise InputError(
            f"no usable row in {found['num_records']:,} records",
            where=where,
            fix=f"the first one was dropped because: {first[0]} ({first[1]})" if first else "the files are empty",
        )
    if num_documents not in (0, num_rows):
        formats = ", ".join(sorted({str(file["format"]) for file in found["files"]}))
        raise InputError(
            f"{num_documents:,} documents and {num_rows - num_documents:,} conversations cannot be one data set",
            where=where,
            fix=f"import them in stages of their own (the formats are: {formats})",
        )
    return done
