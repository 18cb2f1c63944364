"""Records of files: the JSON text of one object each, or the reason why it cannot be read.

JSON arrays, JSON Lines, CSV, TSV and Parquet, each plain or as .gz or .zst; read as a stream, so that neither a large
file nor an endless line fills the memory.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from baihua.core.errors import InputError
from baihua.data.drafts import Bad
from baihua.data.read.files import SUFFIXES

# A record longer than this is a file without line breaks, or not data: a book has about 2 MB.
MAX_NUM_RECORD_BYTES = 32 << 20
# Where a compressed file breaks off, the content of this buffer is lost with the rest.
NUM_BUFFER_BYTES = 1 << 14
NUM_BLOCK_CHARS = 1 << 20
NUM_PARQUET_ROWS = 2_000
BOM = b"\xef\xbb\xbf"
SEPARATORS = re.compile(r"[ \t\r\n,]*")
TOO_LONG = f"longer than {MAX_NUM_RECORD_BYTES >> 20} MiB: is this one record?"


class Record(NamedTuple):
    """One record of a file. `line` counts from 1; in an array or a Parquet file it is the number of the item.

    `raw` is the text of a JSON value, or the part that could be read, with the `reason` why it is not complete.
    """

    line: int
    raw: str
    reason: str = ""
    detail: str = ""


def read_records(file: Path, *, columns: Sequence[str] = (), encoding: str = "utf-8") -> Iterator[Record]:
    """Every record of a file. A damaged end is one more record, with its reason; those before it are not lost.

    `columns` names the columns of a CSV or TSV file without a heading.
    """
    line = 0
    try:
        for record in _read(file, columns, encoding):
            line = record.line
            yield record
    except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        yield Record(line + 1, "", "file_damaged", f"nothing can be read from here on: {str(error)[:200]}")


def _read(file: Path, columns: Sequence[str], encoding: str) -> Iterator[Record]:
    kind = Path(file.name.removesuffix(".gz").removesuffix(".zst")).suffix.lower()
    packed: Any = gzip.GzipFile(file) if file.suffix == ".gz" else pa.OSFile(str(file))
    unpacked = pa.CompressedInputStream(packed, "zstd") if file.suffix == ".zst" else packed
    with packed, unpacked, io.BufferedReader(unpacked, NUM_BUFFER_BYTES) as stream:
        if kind == ".parquet":
            # Parquet is read from its end, so a compressed file must be decompressed first.
            yield from _read_parquet(packed if file.suffix == ".parquet" else pa.BufferReader(stream.read()))
        elif kind in (".csv", ".tsv"):
            yield from _read_table(stream, columns, encoding, delimiter="\t" if kind == ".tsv" else ",")
        elif kind == ".json" and stream.peek(4096)[:4096].removeprefix(BOM).lstrip().startswith(b"["):
            yield from _read_array(stream, encoding)
        else:
            yield from _read_lines(stream, encoding)


def _read_parquet(source: pa.NativeFile) -> Iterator[Record]:
    batches = pq.ParquetFile(source).iter_batches(NUM_PARQUET_ROWS)
    for number, value in enumerate((value for batch in batches for value in batch.to_pylist()), start=1):
        yield Record(number, json.dumps(value, ensure_ascii=False, default=str))


def _read_lines(stream: io.BufferedReader, encoding: str) -> Iterator[Record]:
    number = 0
    while line := stream.readline(MAX_NUM_RECORD_BYTES):
        number += 1
        if len(line) == MAX_NUM_RECORD_BYTES and not line.endswith(b"\n"):
            yield Record(number, line[:1000].decode(encoding, "replace"), "record_too_long", TOO_LONG)
            while (rest := stream.readline(MAX_NUM_RECORD_BYTES)) and not rest.endswith(b"\n"):
                pass
            continue
        line = line.removeprefix(BOM) if number == 1 else line
        try:
            record = Record(number, line.decode(encoding).strip())
        except UnicodeDecodeError as error:
            seen = line.decode(encoding, "backslashreplace").strip()
            record = Record(number, seen, f"not_{encoding.replace('-', '')}", f"{error.reason} at byte {error.start}")
        if record.raw:
            yield record


def _read_array(stream: io.BufferedReader, encoding: str) -> Iterator[Record]:
    """Items of a JSON array, one after the other, without holding the array."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig" if encoding == "utf-8" else encoding)
    decoder, buffer, start, number = json.JSONDecoder(), "", 0, 0
    try:
        buffer = text.read(NUM_BLOCK_CHARS).lstrip()[1:]
        while True:
            start += len(SEPARATORS.match(buffer, start)[0])  # type: ignore[index]
            end = _item_end(decoder, buffer, start)
            if end is not None:
                number += 1
                yield Record(number, buffer[start:end])
                start = end
                continue
            more = text.read(max(NUM_BLOCK_CHARS, len(buffer) - start))
            buffer, start = buffer[start:] + more, 0
            if not more or len(buffer) > MAX_NUM_RECORD_BYTES:
                break
    except UnicodeDecodeError as error:
        yield Record(number + 1, "", f"not_{encoding.replace('-', '')}", f"{error.reason}; the rest is unread")
        return
    if buffer.strip() != "]":
        yield Record(number + 1, buffer[:1000], "file_damaged", "the array breaks off or is not JSON from here on")


def _item_end(decoder: json.JSONDecoder, buffer: str, start: int) -> int | None:
    """The end of the item that starts here, None if the buffer does not hold all of it."""
    try:
        _, end = decoder.raw_decode(buffer, start)
    except (json.JSONDecodeError, RecursionError):
        return None
    # A number may continue in the next block; any other value ends with its own mark.
    return end if end < len(buffer) or buffer[end - 1] in '}]"' else None


def _read_table(
    stream: io.BufferedReader, columns: Sequence[str], encoding: str, *, delimiter: str
) -> Iterator[Record]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="")
    # A TSV file has no quoting: quotation marks in it are ordinary characters.
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    csv.field_size_limit(MAX_NUM_RECORD_BYTES)
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting)
    names, line = list(columns), 1
    try:
        for fields in reader:
            if fields and not names:
                names = fields
            elif fields:
                yield _row(names, fields, line)
            line = reader.line_num + 1
    except UnicodeDecodeError as error:
        yield Record(line, "", f"not_{encoding.replace('-', '')}", f"{error.reason}; the rest is unread")
    except csv.Error as error:
        yield Record(line, "", "file_damaged", f"{error}; the rest is unread")


def _row(names: Sequence[str], fields: list[str], line: int) -> Record:
    if len(fields) != len(names):
        detail = f"{len(fields)} columns, expected {len(names)}: {', '.join(names)}"[:300]
        return Record(line, json.dumps(fields, ensure_ascii=False), "wrong_columns", detail)
    return Record(line, json.dumps(dict(zip(names, fields, strict=True)), ensure_ascii=False))


def read_objects(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of every record of a file; an InputError names the first one that cannot be read.

    A file with none of SUFFIXES is plain text: each line that is not blank is the object {"text": LINE}.
    """
    if not file.is_file():
        raise InputError("no such file", where=str(file), fix="check the path")
    is_plain = not file.name.lower().endswith(SUFFIXES)
    for record in read_records(file):
        try:
            yield record.line, {"text": record.raw} if is_plain and not record.reason else parse(record)
        except Bad as bad:
            what = f"this record cannot be read: {bad.reason} ({bad.detail})"
            raise InputError(what, where=f"{file}:{record.line}", fix="correct or remove it") from bad


def parse(record: Record) -> dict[str, Any]:
    """The object in a record; Bad with the record's reason, or `not_json`, where there is none that can be used."""
    if record.reason:
        raise Bad(record.reason, record.detail)
    try:
        value = json.loads(record.raw, object_pairs_hook=_object)
        if "\\ud" in record.raw or "\\uD" in record.raw:
            # JSON can spell half of a UTF-16 pair, which cannot be written as UTF-8.
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise Bad("not_json", f"{error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise Bad("not_json", "nested too deeply") from error
    except UnicodeEncodeError as error:
        raise Bad("not_json", "half of a surrogate pair (\\ud800 to \\udfff) is not a character") from error
    if not isinstance(value, dict):
        raise Bad("not_json", f"expected an object, found {type(value).__name__}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object with each key once: JSON would silently keep the last value."""
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise Bad("not_json", f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return value
