"""The index of rows that draws are made from, and copying of drawn rows batch by batch.

No more than a batch of texts is in memory. N rows of one or several files, numbered across all files.
"""

# ruff: noqa: N803, N806, N815  (names of arrays end with their shape)

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from baihua.core.errors import InputError
from baihua.data.rows import DROPPED_FILE, DROPPED_SCHEMA, LAYOUTS, find_table, holds_documents

NUM_ROWS_PER_BATCH = 4096
NUM_BATCHES_PER_GROUP = 4
# A file may be one row group: without a buffer the reader takes whole columns into memory, and the default
# `pre_buffer` the whole file (84 MB: 98 MiB, without it 19).
NUM_BYTES_BUFFERED = 1 << 16


@dataclass(frozen=True, slots=True)
class Index:
    """Id, group, file and source of every row, about 60 bytes each; `file_N` and `source_N` index the two lists."""

    files: list[Path]
    sources: list[str]
    ids_N: pa.Array
    groups_N: pa.Array
    file_N: np.ndarray
    source_N: np.ndarray
    holds_documents: bool = False
    num_rows_per_batch: int = NUM_ROWS_PER_BATCH

    @property
    def num_rows(self) -> int:
        """Rows of all files."""
        return len(self.ids_N)

    @property
    def num_rows_per_group(self) -> int:
        """Rows that are written at once, as one row group of a Parquet file."""
        return NUM_BATCHES_PER_GROUP * self.num_rows_per_batch

    @property
    def schema(self) -> pa.Schema:
        """The columns of its rows."""
        return LAYOUTS[self.holds_documents][0]

    def count_sources(self, rows: np.ndarray) -> dict[str, int]:
        """How many of these rows each source has; `rows` are row numbers."""
        counts = np.bincount(self.source_N[rows], minlength=len(self.sources)).tolist()
        return {name: number for name, number in sorted(zip(self.sources, counts, strict=True)) if number}

    def batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """All rows in order, in batches, each with the number of its first row."""
        first = 0
        for file in self.files:
            with pq.ParquetFile(file, buffer_size=NUM_BYTES_BUFFERED, pre_buffer=False) as parquet:
                for batch in parquet.iter_batches(self.num_rows_per_batch, columns=self.schema.names):
                    yield first, batch
                    first += batch.num_rows

    def write(self, batches: Iterable[pa.RecordBatch], folder: Path) -> None:
        """Write rows with the columns of this index into an artifact's folder."""
        _write(batches, self.schema, folder / LAYOUTS[self.holds_documents][1], self.num_rows_per_group)

    def write_chosen(self, is_chosen_N: np.ndarray, folder: Path) -> None:
        """Write the chosen rows, in their old order."""
        folder.mkdir(parents=True, exist_ok=True)
        masks = ((batch, is_chosen_N[first : first + batch.num_rows]) for first, batch in self.batches())
        self.write((batch.filter(pa.array(mask)) for batch, mask in masks), folder)

    def write_not_drawn(self, code_N: np.ndarray, folder: Path, *, details: Sequence[str]) -> None:
        """Write `dropped.parquet`: the rows with a code above 0, which is the index of their detail."""
        codes = ((batch, code_N[first : first + batch.num_rows]) for first, batch in self.batches())
        dropped = (_not_drawn(batch, code, details) for batch, code in codes)
        _write(dropped, DROPPED_SCHEMA, folder / DROPPED_FILE, self.num_rows_per_group)


def read_index(paths: Sequence[Path], *, num_rows_per_batch: int = NUM_ROWS_PER_BATCH) -> Index:
    """The index of data artifacts' folders, or of Parquet files with the same columns."""
    files = [find_table(path) for path in paths]
    kinds = {holds_documents(file) for file in files}
    if len(kinds) > 1:
        raise InputError("one data set cannot hold both documents and conversations", where=", ".join(map(str, files)))
    tables = [pq.read_table(file, columns=["id", "source", "group"], read_dictionary=["source"]) for file in files]
    table = pa.concat_tables(tables).unify_dictionaries()
    source, ids_N, groups_N = (table[name].combine_chunks() for name in ("source", "id", "group"))
    file_N = np.repeat(np.arange(len(files)), [len(part) for part in tables]).astype(np.int32)
    sources, source_N = source.dictionary.to_pylist(), source.indices.to_numpy()
    return Index(files, sources, ids_N, groups_N, file_N, source_N, kinds.pop(), num_rows_per_batch)


def texts_of(array: pa.Array) -> Iterator[str]:
    """The texts of an array, converted one batch at a time."""
    for first in range(0, len(array), NUM_ROWS_PER_BATCH):
        yield from array.slice(first, NUM_ROWS_PER_BATCH).to_pylist()


def _write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: Path, num_rows: int) -> None:
    """Write one Parquet file; small batches are gathered, since each write makes a new row group."""
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in chain(batches, [None]):
            waiting += [] if batch is None else [batch]
            if waiting and (batch is None or sum(part.num_rows for part in waiting) >= num_rows):
                writer.write_table(pa.Table.from_batches(waiting).select(schema.names).cast(schema))
                waiting = []


def _not_drawn(batch: pa.RecordBatch, codes: np.ndarray, details: Sequence[str]) -> pa.RecordBatch:
    records = batch.filter(pa.array(codes > 0)).to_pylist()
    for record, code in zip(records, codes[codes > 0].tolist(), strict=True):
        plain = [
            {key: value for key, value in item.items() if value is not None} for item in record.get("messages", [])
        ]
        content = {"text": record["text"]} if "text" in record else {"messages": plain}
        record |= {"reason": "not_drawn", "detail": details[code], "row": json.dumps(content, ensure_ascii=False)}
    return pa.RecordBatch.from_pylist(records, schema=DROPPED_SCHEMA)
