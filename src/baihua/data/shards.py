"""Shards: parts of a table on disk that workers read and write, and the artifact that they are joined into.

A shard STEM is two Parquet files, STEM.kept.parquet and STEM.dropped.parquet. Documents are read as conversations of
one message with the role `document`, so that everything that works on texts needs one layout only.
"""

# pyarrow.compute creates its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baihua.core.files import appearing
from baihua.data.rows import DOCUMENT, DOCUMENTS_SCHEMA, DROPPED_FILE, DROPPED_SCHEMA, LAYOUTS, MESSAGE, SCHEMA

# A worker holds one shard in memory, and a kill costs at most the shards that were being worked on.
NUM_SHARD_ROWS = 20_000
NUM_SHARD_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class RowGroup:
    """The rows that a worker reads: a row group of a Parquet file."""

    file: str
    row_group: int = 0

    def read(self) -> pa.Table:
        """The rows in the layout of conversations."""
        table = pq.ParquetFile(self.file).read_row_group(self.row_group)
        return _as_conversations(table) if "text" in table.column_names else table.select(SCHEMA.names).cast(SCHEMA)


def row_groups(file: Path) -> list[RowGroup]:
    """The row groups of a table that hold rows."""
    metadata = pq.ParquetFile(file).metadata
    return [RowGroup(str(file), n) for n in range(metadata.num_row_groups) if metadata.row_group(n).num_rows]


def kept_file(stem: Path) -> Path:
    """The file of a shard's kept rows."""
    return stem.with_name(f"{stem.name}.kept.parquet")


def dropped_file(stem: Path) -> Path:
    """The file of a shard's dropped rows."""
    return stem.with_name(f"{stem.name}.dropped.parquet")


def write_shard(stem: Path, kept: pa.Table, dropped: pa.Table) -> None:
    """Write both files of a shard; the caller's record, written after them, makes them count."""
    # One row group each, so that a shard is read as one; lz4, as these files are soon read and removed. A worker
    # outlives a killed run for a moment: what it still writes must not disturb the next run.
    for table, file in ((kept, kept_file(stem)), (dropped, dropped_file(stem))):
        with appearing(file, is_shared=True) as partial:
            pq.write_table(table, partial, compression="lz4", row_group_size=max(1, table.num_rows))


def publish(stems: Sequence[Sequence[Path]], out: Path, *, numbers_ids: bool = False) -> dict[str, Any]:
    """Join shards into an artifact: the last list has the kept rows, every list has dropped ones.

    `numbers_ids` gives the second of equal ids the ending `-2`, the third `-3`. Returns counts of the kept rows.
    """
    is_document = _hold_documents(stems[-1])
    schema, file = LAYOUTS[is_document]
    repeats = _repeats(stems[-1]) if numbers_ids else None
    num_chars, num_rows, sources = 0, 0, Counter[str]()
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(out / file, schema, compression="zstd") as writer:
        for stem in stems[-1]:
            table = pq.read_table(kept_file(stem))
            if repeats is not None:
                table = _number(table, repeats[num_rows : num_rows + table.num_rows])
            num_rows += table.num_rows
            num_chars += count_chars(table)
            sources.update({one["values"]: one["counts"] for one in pc.value_counts(table["source"]).to_pylist()})
            waiting.append(_as_documents(table) if is_document else table)
            # Shards that lost most of their rows become one row group, so that the next stage has fewer.
            if sum(map(len, waiting)) >= NUM_SHARD_ROWS or stem == stems[-1][-1]:
                writer.write_table(pa.concat_tables(waiting), row_group_size=NUM_SHARD_ROWS)
                waiting = []
    with pq.ParquetWriter(out / DROPPED_FILE, DROPPED_SCHEMA, compression="zstd") as writer:
        for stem in (stem for step in stems for stem in step):
            writer.write_table(pq.read_table(dropped_file(stem)))
    return {"num_rows_kept": num_rows, "num_chars": num_chars, "num_rows_by_source": dict(sorted(sources.items()))}


def count_chars(table: pa.Table) -> int:
    """Characters of all messages."""
    flat = pc.list_flatten(table["messages"])
    parts = [pc.sum(pc.utf8_length(pc.struct_field(flat, name))).as_py() for name in ("content", "input")]
    return sum(part or 0 for part in parts)


def _hold_documents(stems: Sequence[Path]) -> bool:
    """Whether shards hold documents: they never hold both kinds, so the first row decides."""
    for stem in stems:
        messages = pq.read_table(kept_file(stem), columns=["messages"])["messages"]
        if len(messages):
            return messages[0].as_py()[0]["role"] == DOCUMENT
    return False


def _repeats(stems: Sequence[Path]) -> np.ndarray:
    """For each row how often its id occurred before it, from 0; 12 bytes a row."""
    ids = pa.chunked_array([pq.read_table(kept_file(stem), columns=["id"])["id"].combine_chunks() for stem in stems])
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in ids.unify_dictionaries().dictionary_encode().chunks])
    order = np.argsort(codes, kind="stable")
    repeats = np.empty(len(codes), dtype=np.int32)
    repeats[order] = np.arange(len(codes)) - np.searchsorted(codes, codes[order], sorter=order)
    return repeats


def _number(table: pa.Table, repeats: np.ndarray) -> pa.Table:
    if not repeats.any():
        return table
    ids = [f"{row_id}-{n + 1}" if n else row_id for row_id, n in zip(table["id"].to_pylist(), repeats, strict=True)]
    return table.set_column(0, "id", pa.array(ids, pa.string()))


def _as_documents(table: pa.Table) -> pa.Table:
    texts = pc.struct_field(pc.list_element(table["messages"], 0), "content")
    return table.append_column("text", texts).select(DOCUMENTS_SCHEMA.names).cast(DOCUMENTS_SCHEMA)


def _as_conversations(table: pa.Table) -> pa.Table:
    texts = table["text"].combine_chunks()
    roles = pa.repeat(pa.scalar(DOCUMENT), len(texts))
    message = pa.StructArray.from_arrays([roles, texts, pa.nulls(len(texts), pa.string())], fields=list(MESSAGE))
    messages = pa.ListArray.from_arrays(pa.array(np.arange(len(texts) + 1, dtype=np.int32)), message)
    return table.append_column("messages", messages).select(SCHEMA.names).cast(SCHEMA)
