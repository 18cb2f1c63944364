"""Run the filters of a recipe over data of any size, and count what became of the rows.

Filters that look at one row at a time run together, shard by shard, in all processes or on a cluster. A filter that
must see the whole table of N rows (duplicates) stands between two such steps: it finds rows, and the next step drops
them.
"""

# ruff: noqa: N803  (names of arrays end with their shape)
# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baihua.chat.template import token_counter
from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.files import appearing
from baihua.data.batch import Batch
from baihua.data.clean.contract import FILTERS, Duplicates, Filter, Part, TextMap
from baihua.data.clean.shard import Counts, Shard, new_counts
from baihua.data.rows import DROPPED_SCHEMA, find_table
from baihua.data.shards import RowGroup, kept_file, publish, row_groups, write_shard
from baihua.data.workers import WorkPiece, run_pieces

Tools = Mapping[str, str]
"""The sources of what filters need: the input folders of the stage by role, and under `template` a template's name."""


def clean(filters: Sequence[Base], tools: Tools, out: Path, *, cluster: str | None) -> dict[str, Any]:
    """Filter the rows of the input `data`, and write the kept ones and dropped.parquet; returns metrics."""
    opened = [Filter(config) for config in filters]
    for item in opened:
        needs = open_needs(item, tools)
        if item.check_config:
            item.check_config(item.config, **needs)
    sources = row_groups(find_table(Path(tools["data"])))
    if not sources:
        raise InputError(
            "there are no rows to clean",
            where=tools["data"],
            fix="the stage before dropped them all; find out why with: baihua show PATH --stats",
        )
    shards, counts = _run_steps(sources, opened, out / "work", tools=tools, cluster=cluster)
    kept = publish(shards, out)
    shutil.rmtree(out / "work")
    num_rows_before = kept["num_rows_kept"] + counts["dropped"].total() - counts["added"].total()
    sums = {f"num_rows_{what}": dict(sorted(counter.items())) for what, counter in counts.items()}
    return {"num_rows_in": num_rows_before, "num_rows_kept": kept.pop("num_rows_kept")} | sums | kept


def open_needs(item: Filter, tools: Tools) -> dict[str, Any]:
    """What a filter names in `NEEDS`, by name; an input that the stage was not given is an InputError."""
    found: dict[str, Any] = {}
    for need in item.needs:
        if need not in NEEDS:
            raise InputError(kinds.unknown(need, sorted(NEEDS), what="need"), where=f"filters: {item.kind}: NEEDS")
        role, open_need = NEEDS[need]
        if role not in tools:
            raise InputError(
                f"the filter {item.kind!r} needs the input {role!r}",
                where=f"filters: {item.kind}",
                fix=f"add {role} to the stage's inputs (--in {role}=PATH)",
            )
        found[need] = open_need(Path(tools[role]), template=tools["template"])
    return found


@cache
def _read_topics(folder: Path, **_: str) -> Mapping[str, str]:
    table = pq.read_table(folder / "topics.parquet")
    return dict(zip(table["id"].to_pylist(), table["topic"].to_pylist(), strict=True))


# The names that a filter file may list in NEEDS, with the input each comes from and the function that opens it.
NEEDS: dict[str, tuple[str, Callable[..., Any]]] = {
    "count_tokens": ("model", cache(token_counter)),
    "topics": ("topics", _read_topics),
}


def _run_steps(
    sources: Sequence[RowGroup], filters: Sequence[Filter], work: Path, *, tools: Tools, cluster: str | None
) -> tuple[list[list[Path]], Counts]:
    """The shards of each step, the last of which hold the kept rows, and the counts of all steps."""
    steps: list[list[Path]] = []
    total = new_counts()
    duplicates: str | None = None
    for number, (row_filters, table_filter) in enumerate(_steps(filters)):
        folder = work / f"step-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        settings = [item.config.model_dump() for item in row_filters]
        filter_shard = partial(filter_piece, filters=settings, tools=tools, duplicates=duplicates)
        pieces = [WorkPiece(folder / f"{n:05}", {"source": asdict(source)}) for n, source in enumerate(sources)]
        num_rows = 0
        for result in run_pieces(filter_shard, pieces, label="filter", cluster=cluster):
            num_rows += result["num_rows"]
            for what, counter in total.items():
                counter.update(result["counts"][what])
        steps.append([piece.out for piece in pieces])
        sources = [RowGroup(str(kept_file(piece.out))) for piece in pieces]
        if table_filter is not None:
            table = StoredTable(steps[-1], num_rows, folder / "table", cluster)
            found = table_filter.function(table, table_filter.config, **open_needs(table_filter, tools))
            write_duplicates(found, steps[-1], folder / "duplicates")
            duplicates = str(folder / "duplicates")
    return steps, total


def _steps(filters: Sequence[Filter]) -> Iterator[tuple[list[Filter], Filter | None]]:
    """The row filters up to each table filter; the last step has no table filter after it."""
    row_filters: list[Filter] = []
    for item in filters:
        if item.shape == "check_table":
            yield row_filters, item
            row_filters = []
        else:
            row_filters.append(item)
    yield row_filters, None


def filter_piece(
    *, out: Path, source: dict[str, Any], duplicates: str | None, filters: list[dict[str, Any]], tools: Tools
) -> dict[str, Any]:
    """Run row filters over one shard and write it; returns the number of rows kept and the counts."""
    shard = Shard(Batch(RowGroup(**source).read()))
    if duplicates is not None:
        shard.drop_duplicates(Path(duplicates, out.name))
    for settings in filters:
        item = Filter(kinds.find(FILTERS, settings["kind"]).Config.model_validate(settings))
        shard.run(item, open_needs(item, tools))
    if shard.counts["changed"]:
        shard.drop_emptied()
    write_shard(out, shard.batch.table, pa.concat_tables([DROPPED_SCHEMA.empty_table(), *shard.dropped_rows]))
    return {"num_rows": shard.batch.num_rows, "counts": shard.counts}


class StoredTable:
    """A `contract.RowTable`. The arrays stay in files under `folder`, so that a rerun need not compute them again."""

    def __init__(self, stems: Sequence[Path], num_rows: int, folder: Path, cluster: str | None) -> None:
        self.num_rows = num_rows
        self._stems = stems
        self._folder = folder
        self._cluster = cluster
        self._num_calls = 0

    def map(self, function: TextMap, part: Part) -> tuple[np.ndarray, ...]:
        """Arrays that a function makes of the texts of each block of rows, concatenated and memory-mapped."""
        # The order of a filter's calls is fixed, so their number tells them apart also in a rerun.
        folder = self._folder / f"map-{self._num_calls}"
        folder.mkdir(parents=True, exist_ok=True)
        self._num_calls += 1
        named, keywords = (function.func, function.keywords) if isinstance(function, partial) else (function, {})
        name = f"{named.__module__}:{named.__qualname__}"
        work = partial(map_piece, function=name, keywords=keywords, part=part)
        pieces = [WorkPiece(folder / stem.name, {"file": str(kept_file(stem))}) for stem in self._stems]
        results = list(run_pieces(work, pieces, label="map", cluster=self._cluster))
        return tuple(
            _concatenate([folder / f"{stem.name}.{number}.npy" for stem in self._stems], folder / f"all.{number}.npy")
            for number in range(results[0]["num_arrays"])
        )


def map_piece(*, out: Path, file: str, function: str, keywords: dict[str, Any], part: Part) -> dict[str, Any]:
    """Call the function of a name on the texts of one shard and save the arrays it returns."""
    arrays = resolve_name(function)(Batch(RowGroup(file).read()).texts(part).to_pylist(), **keywords)
    for number, array in enumerate(arrays):
        target = out.with_name(f"{out.name}.{number}.npy")
        with appearing(target, is_shared=True) as unfinished, unfinished.open("wb") as stream:
            np.save(stream, array)
    return {"num_arrays": len(arrays)}


def _concatenate(files: Sequence[Path], target: Path) -> np.ndarray:
    """The arrays of files, one after the other, as one memory-mapped file."""
    parts = [np.load(file, mmap_mode="r") for file in files]
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    if shape[0] == 0:
        return np.empty(shape, parts[0].dtype)
    whole = np.lib.format.open_memmap(target, mode="w+", dtype=parts[0].dtype, shape=shape)
    np.concatenate(parts, out=whole)
    whole.flush()
    return np.load(target, mmap_mode="r")


def write_duplicates(found: Duplicates, stems: Sequence[Path], folder: Path) -> None:
    """Write two files per shard: rows to drop, with what they resemble, and rows that change their group."""
    folder.mkdir(exist_ok=True)
    tables = [pq.read_table(kept_file(stem), columns=["id", "group"]) for stem in stems]
    whole = pa.concat_tables(tables)
    order = np.argsort(found.dropped_R)
    dropped, kept = found.dropped_R[order], found.kept_R[order]
    details = pc.binary_join_element_wise("of ", whole["id"].take(pa.array(kept)).combine_chunks(), "")
    if found.similarity_R is not None:
        shares = pa.array([f"{share:.2f}" for share in found.similarity_R[order]], pa.string())
        details = pc.binary_join_element_wise(details, shares, ", ")
    old = whole["group"].combine_chunks()
    new = _merge_groups(found.group_N, old)
    start = 0
    for number, table in enumerate(tables):
        end = start + table.num_rows
        first, last = np.searchsorted(dropped, [start, end])
        rows = pa.array(dropped[first:last] - start, pa.int64())
        reasons = pa.repeat(pa.scalar(found.reason), last - first)
        columns = {"row": rows, "reason": reasons, "detail": details.slice(first, last - first)}
        pq.write_table(pa.table(columns), folder / f"{number:05}.dropped.parquet")
        groups = new.slice(start, table.num_rows)
        differs = pc.not_equal(groups, old.slice(start, table.num_rows)).to_numpy(zero_copy_only=False)
        rows = pa.array(np.flatnonzero(differs), pa.int64())
        pq.write_table(pa.table({"row": rows, "group": groups.take(rows)}), folder / f"{number:05}.groups.parquet")
        start = end


def _merge_groups(group_N: np.ndarray, old: pa.StringArray) -> pa.StringArray:
    """Groups in which rows are together that were so before, or that belong together now."""
    if np.array_equal(group_N, np.arange(len(group_N))):
        return old
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    encoded = old.dictionary_encode()
    codes = encoded.indices.to_numpy()
    num_groups = len(encoded.dictionary)
    # The old groups are the nodes; each row ties its group to the group of the row that it belongs to.
    ties = coo_matrix((np.ones(len(codes), dtype=bool), (codes, codes[group_N])), shape=(num_groups, num_groups))
    _, labels = connected_components(ties, directed=False)
    _, first = np.unique(labels, return_index=True)
    return encoded.dictionary.take(pa.array(first[labels[codes]]))
