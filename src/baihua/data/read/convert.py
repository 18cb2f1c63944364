"""Converting files of any format to rows; a record that cannot be converted is kept with the reason.

There are two steps: one process cuts the files into shards of records, which is plain reading; then workers convert
each shard to rows. After a kill, an unfinished first step starts again; of the second only the missing shards do.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from baihua.chat.types import Message
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.core.files import write_json
from baihua.data import shards
from baihua.data.drafts import Bad, Draft, check_turns, has_texts
from baihua.data.formats import auto
from baihua.data.read.files import Origin
from baihua.data.read.records import Record, parse, read_records
from baihua.data.rows import DOCUMENT, DROPPED_SCHEMA, SCHEMA, message_id, message_items, row_counts
from baihua.data.workers import WorkPiece, run_pieces

# The format of a file is detected from its first records.
NUM_DETECTION_RECORDS = 100
UNKNOWN = "unknown_format"
# Counts and files of a finished first step.
CUT_FILE = "raw.json"

# The number of a file, and the fields of a Record.
TEXTS = [(name, pa.string()) for name in ("raw", "reason", "detail")]
RAW = pa.schema([("file", pa.int32()), ("line", pa.int64()), *TEXTS])

Read = Callable[[Path], Iterator[Record]]
Convert = Callable[[dict[str, Any]], list[Draft] | Bad]


def cut(
    origins: Sequence[Origin], folder: Path, *, columns: Sequence[str], encoding: str, limit: int | None, kind: str
) -> None:
    """Cut files into shards of at most `limit` records in all, and detect the format of each file if `kind` is auto.

    CUT_FILE gets `files` (path, name, source, licence and format of each), `num_records` and `num_shards`.
    """
    if (folder / CUT_FILE).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    files: list[dict[str, Any]] = []
    sizes: list[int] = []
    read = partial(read_records, columns=columns, encoding=encoding)
    for rows in _grouped(_read_files(origins, files, read, limit=limit, kind=kind)):
        table = pa.Table.from_pylist([{"file": file, **record._asdict()} for file, record in rows], schema=RAW)
        pq.write_table(table, folder / f"{len(sizes):05}.parquet", compression="lz4")
        sizes.append(len(rows))
    write_json(folder / CUT_FILE, {"files": files, "num_records": sum(sizes), "num_shards": len(sizes)})


def convert(
    folder: Path, out: Path, *, format: dict[str, Any], keep: Sequence[str], stops: bool, cluster: str | None
) -> dict[str, Any]:
    """Convert the shards of records in a folder to a data artifact; returns the metrics of the stage.

    `format` is a format's config, `keep` names keys of a record, dotted, that go into a row's meta. Raises InputError
    for the first bad record if that `stops` the work, and for data that cannot be used at all.
    """
    found = json.loads((folder / CUT_FILE).read_text(encoding="utf-8"))
    (folder / "rows").mkdir(exist_ok=True)
    names = [f"{n:05}" for n in range(found["num_shards"])]
    pieces = [WorkPiece(folder / "rows" / name, {"raw": str(folder / f"{name}.parquet")}) for name in names]
    work = partial(convert_piece, files=str(folder / CUT_FILE), format=format, keep=list(keep), stops=stops)
    done = list(run_pieces(work, pieces, label="read", cluster=cluster))
    _check_usable(done, found)
    kept = shards.publish([[piece.out for piece in pieces]], out, numbers_ids=True)
    dropped = sum((Counter(result["dropped"]) for result in done), Counter[str]())
    num_in, num_kept = found["num_records"], kept["num_rows_kept"]
    added = {"more_rows_per_record": num_kept + dropped.total() - num_in}
    licences = {file["source"]: file["licence"] for file in found["files"]}
    sources = kept["num_rows_by_source"].items()
    return row_counts(num_in, num_kept, dropped=dict(sorted(dropped.items())), added=added) | {
        "num_chars": kept["num_chars"],
        "formats": dict(Counter(file["format"] or "unknown" for file in found["files"])),
        "sources": {name: {"licence": licences[name], "num_rows": count} for name, count in sources},
    }


def convert_piece(
    *, out: Path, raw: str, files: str, format: dict[str, Any], keep: list[str], stops: bool
) -> dict[str, Any]:
    """Convert one shard of records to a shard of rows; returns its counts."""
    known = json.loads(Path(files).read_text(encoding="utf-8"))["files"]
    converters = {entry["format"]: _open_format(entry["format"], format) for entry in known}
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for number, *values in zip(*pq.read_table(raw).to_pydict().values(), strict=True):
        file, record = known[number], Record(*values)
        place = {"source": file["source"], "file": file["name"], "line": record.line}
        try:
            kept += [place | row for row in _rows(parse(record), converters[file["format"]], keep)]
        except Bad as bad:
            if stops:
                raise _refusal(bad, f"{file['path']}:{record.line}") from bad
            dropped.append(place | {"reason": bad.reason, "detail": bad.detail, "row": record.raw})
    tables = pa.Table.from_pylist(kept, schema=SCHEMA), pa.Table.from_pylist(dropped, schema=DROPPED_SCHEMA)
    shards.write_shard(out, *tables)
    return {
        "num_rows": len(kept),
        "num_documents": sum(row["messages"][0]["role"] == DOCUMENT for row in kept),
        "dropped": dict(Counter(row["reason"] for row in dropped)),
        "first_dropped": [dropped[0]["reason"], dropped[0]["detail"]] if dropped else [],
    }


def _read_files(
    origins: Sequence[Origin], files: list[dict[str, Any]], read: Read, *, limit: int | None, kind: str
) -> Iterator[tuple[int, Record]]:
    """Every record with the number of its file in `files`, which is filled file by file."""
    left = limit
    for source, licence, file in ((one.source, one.licence, file) for one in origins for file in one.files):
        if left == 0:
            return
        records = islice(read(file), left)
        first = list(islice(records, NUM_DETECTION_RECORDS))
        found = {"source": source or file.name.split(".")[0], "format": _detect(first) if kind == "auto" else kind}
        files.append({"path": str(file), "name": file.name, "licence": licence} | found)
        for record in chain(first, records):
            yield len(files) - 1, record
            left = None if left is None else left - 1


def _grouped(records: Iterable[tuple[int, Record]]) -> Iterator[list[tuple[int, Record]]]:
    """Lists of records with their file numbers, each as long as a shard may be."""
    rows: list[tuple[int, Record]] = []
    num_bytes = 0
    for file, record in records:
        rows.append((file, record))
        num_bytes += len(record.raw)
        if len(rows) >= shards.NUM_SHARD_ROWS or num_bytes >= shards.NUM_SHARD_BYTES:
            yield rows
            rows, num_bytes = [], 0
    if rows:
        yield rows


def _rows(record: dict[str, Any], convert: Convert | None, keep: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Id, group, messages and meta of the rows of one record, after the checks that all formats share."""
    if convert is None:
        raise Bad(UNKNOWN, f"no format has the keys {', '.join(record)}"[:300])
    drafts = convert(record)
    if isinstance(drafts, Bad):
        raise drafts
    if not drafts:
        raise Bad("no_text", "the record holds no row")
    kept = {key: value for key in keep if (value := _look_up(record, key)) is not None}
    for draft in drafts:
        if draft.text is None:
            check_turns(draft.messages, is_answered=draft.is_answered)
        elif not draft.text.strip():
            raise Bad("empty_text", "the document is empty")
        messages = draft.messages if draft.text is None else [Message(DOCUMENT, draft.text)]
        row_id = message_id(messages)
        yield {
            "id": row_id,
            "group": record["group"] if has_texts(record, "group") else row_id,
            "messages": message_items(messages),
            "meta": json.dumps(draft.meta | kept, ensure_ascii=False),
        }


def _open_format(kind: str | None, config: dict[str, Any]) -> Convert | None:
    """The conversion of a format; `config` is used if it is of this kind. None without a kind."""
    if kind is None:
        return None
    module = kinds.find(auto.PACKAGE, kind)
    settings = module.Config.model_validate(config if config["kind"] == kind else {"kind": kind})
    return lambda record: module.convert(record, settings)


def _detect(records: Iterable[Record]) -> str | None:
    values: list[dict[str, Any]] = []
    for record in records:
        with suppress(Bad):
            values.append(parse(record))
    return auto.detect(values)


def _look_up(record: dict[str, Any], key: str) -> Any:
    """The value under a key, or under dotted keys of nested objects."""
    if key in record:
        return record[key]
    head, _, rest = key.partition(".")
    below = record.get(head)
    return _look_up(below, rest) if rest and isinstance(below, dict) else None


def _refusal(bad: Bad, where: str) -> InputError:
    why = f"{bad.reason} ({bad.detail})" if bad.detail else bad.reason
    fixes = {UNKNOWN: "name its format and columns: format: {kind: alpaca, instruction: COLUMN, ...}"}
    fix = "correct the record, or set `bad_rows: drop` to leave out such records (dropped.parquet lists them)"
    return InputError(f"this record cannot be used: {why}", where=where, fix=fixes.get(bad.reason, fix))


def _check_usable(results: Sequence[dict[str, Any]], found: dict[str, Any]) -> None:
    """Refuse files without any usable record, and a mix of conversations and documents."""
    where = ", ".join(file["path"] for file in found["files"][:3])
    num_rows = sum(result["num_rows"] for result in results)
    num_documents = sum(result["num_documents"] for result in results)
    if num_rows == 0:
        first = next((result["first_dropped"] for result in results if result["first_dropped"]), None)
        fix = f"the first one was dropped because: {first[0]} ({first[1]})" if first else "the files are empty"
        raise InputError(f"none of {found['num_records']:,} records can be used", where=where, fix=fix)
    if num_documents not in (0, num_rows):
        counts = f"{num_documents:,} documents and {num_rows - num_documents:,} conversations"
        formats = ", ".join(sorted({str(file["format"]) for file in found["files"]}))
        fix = f"import them in separate stages (the formats are: {formats})"
        raise InputError(f"one data set cannot hold both {counts}", where=where, fix=fix)
