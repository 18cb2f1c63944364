"""Run the filters of a recipe over data of any size, and count what became of the rows.

Filters that look at one row at a time run together, shard by shard, in all processes or on a cluster. A filter that
must see the whole table (duplicates) stands between two such steps: it finds rows, and the next step drops them.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from baihua.chat.template import token_counter
from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.data.batch import Batch
from baihua.data.clean.contract import FILTERS, Filter
from baihua.data.clean.shard import Counts, Shard, new_counts
from baihua.data.clean.stored_table import StoredTable, write_duplicates
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
    duplicates: Path | None = None
    for number, (row_filters, table_filter) in enumerate(_steps(filters)):
        folder = work / f"step-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        settings = [item.config.model_dump() for item in row_filters]
        filter_shard = partial(filter_piece, filters=settings, tools=tools, duplicates=duplicates and str(duplicates))
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
            duplicates = write_duplicates(found, steps[-1], folder / "duplicates")
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
