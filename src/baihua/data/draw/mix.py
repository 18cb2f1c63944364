"""Mixing the rows of several inputs: how many of each, which ones, and in what order.

N rows of all inputs, E rows of the result (entries).
"""

# ruff: noqa: N803, N806  (names of arrays end with their shape)

import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.core.log import logger
from baihua.data.draw.hashed import hashed_numbers
from baihua.data.draw.index import Index, read_index, texts_of
from baihua.data.rows import row_counts

ALL = "all"
PLACE = pa.field("place", pa.int64())
# Each bin is an open file while rows are distributed, and a system may allow 1,024 of them.
MAX_NUM_BINS = 256

# By the name of an input or of a source.
Counts = Mapping[str, int]
Weights = Mapping[str, float]


def mix_rows(
    inputs: dict[str, Path], out: Path, *, weights: Weights, caps: Counts, num_rows: int | None, repeat: bool, seed: int
) -> dict[str, Any]:
    """Write the mixed rows of data artifacts, given by role, and dropped.parquet with the rest; returns the metrics.

    Where a name has too few rows for its share, all of them are taken, or they are repeated.
    """
    index = read_index(list(inputs.values()))
    mixture = Mixture(index, list(inputs), seed)
    mixture.check([*weights, *caps])
    is_capped_N = mixture.find_capped(caps)
    rows_of = {name: rows[~is_capped_N[rows]] for name, rows in mixture.rows_of(weights).items()}
    wanted = share_out({name: len(rows) for name, rows in rows_of.items()}, weights or {ALL: 1.0}, num_rows)
    taken = {name: np.resize(rows_of[name], n) if repeat else rows_of[name][:n] for name, n in wanted.items()}
    reached = {name: len(rows) for name, rows in taken.items()}
    missing = dict(Counter(wanted) - Counter(reached))
    for name, number in missing.items():
        logger.info("mix: %s has %s rows too few for its share; `repeat: true` would repeat some", name, f"{number:,}")
    rows_E = np.sort(np.concatenate(list(taken.values())))
    write_shuffled(index, rows_E, out, seed=seed)
    drawn = np.unique(rows_E)
    code_N = np.where(is_capped_N, np.uint8(2), np.uint8(1))
    code_N[drawn] = 0
    index.write_not_drawn(code_N, out, details=("", "beyond its share", "beyond its cap"))
    added, dropped = {"repeated": len(rows_E) - len(drawn)}, {"not_drawn": index.num_rows - len(drawn)}
    return row_counts(index.num_rows, len(rows_E), dropped=dropped, added=added) | {
        "num_rows_by_source": index.count_sources(rows_E),
        "share_wanted": _parts(wanted),
        "share_reached": _parts(reached),
        "num_rows_missing": missing,
    }


def _parts(counts: Counts) -> dict[str, float]:
    return {name: round(number / sum(counts.values()), 4) for name, number in counts.items()}


class Mixture:
    """An index whose inputs have names (roles), and the order in which a seed draws its rows."""

    def __init__(self, index: Index, roles: Sequence[str], seed: int) -> None:
        self.index = index
        self.roles = list(roles)
        keys_N = hashed_numbers(texts_of(index.ids_N), salt=f"mix:{seed}", num_texts=index.num_rows)
        # Stable: of two rows with the same id, the first comes first.
        self._order_N = np.argsort(keys_N, kind="stable")

    def check(self, names: Sequence[str]) -> None:
        """Refuse inputs without rows, and names that are neither inputs nor sources."""
        if not self.index.num_rows:
            raise InputError("there are no rows to mix", fix="give non-empty inputs")
        # A source with the name of an input cannot be named.
        known = [*self.roles, *(name for name in sorted(self.index.sources) if name not in self.roles)]
        for name in names:
            if name not in known:
                raise InputError(kinds.unknown(name, known, what="input or source"))

    def _of_name(self, name: str) -> np.ndarray:
        """Which rows belong to a name, bool_N."""
        if name in self.roles:
            return self.index.file_N == self.roles.index(name)
        return self.index.source_N == self.index.sources.index(name)

    def find_capped(self, caps: Counts) -> np.ndarray:
        """Rows beyond a cap, bool_N; caps of sources first, so that an input's cap counts what they leave."""
        is_capped_N = np.zeros(self.index.num_rows, dtype=bool)
        for name in sorted(caps, key=lambda name: (name in self.roles, name)):
            is_left_N = self._of_name(name) & ~is_capped_N
            in_order = self._order_N[is_left_N[self._order_N]]
            is_capped_N[in_order[caps[name] :]] = True
        return is_capped_N

    def rows_of(self, weights: Weights) -> dict[str, np.ndarray]:
        """Row numbers of each name in the order of the draw; a row counts for its source if that has a weight."""
        if not weights:
            return {ALL: self._order_N}
        bucket_N = np.full(self.index.num_rows, -1)
        for name in sorted(weights, key=lambda name: (name not in self.roles, name)):
            bucket_N[self._of_name(name)] = list(weights).index(name)
        rows = np.flatnonzero(bucket_N < 0)
        if len(rows):
            role, source = self.roles[self.index.file_N[rows[0]]], self.index.sources[self.index.source_N[rows[0]]]
            what = f"{len(rows):,} rows have no weight: the first is of input {role!r}, source {source!r}"
            raise InputError(what, fix=f"give {role!r} or {source!r} a weight too; 0 leaves them out")
        bucket_in_order_N = bucket_N[self._order_N]
        return {name: self._order_N[bucket_in_order_N == place] for place, name in enumerate(weights)}


def share_out(available: Counts, weights: Weights, num_rows: int | None) -> dict[str, int]:
    """How many rows each name should have, by largest remainder.

    Without `num_rows` the sum is the largest at which none has too few; with one name that is all its rows.
    """
    # Weights count as they are written: as binary fractions, 0.7 and 0.3 of 10 rows could become 6 and 3.
    exact = {name: Fraction(str(weight)) for name, weight in weights.items() if weight}
    for name in exact:
        if not available[name]:
            fix = "where all sources of an input have weights, the input needs none"
            raise InputError(f"{name!r} has a weight, but no row counts for it", fix=fix)
    shares = {name: weight / sum(exact.values()) for name, weight in exact.items()}
    total = num_rows or int(min(available[name] / share for name, share in shares.items()))
    whole = {name: int(total * share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: whole[name] - total * shares[name])
    for name in by_remainder[: total - sum(whole.values())]:
        whole[name] += 1
    return whole


def name_copies(index: Index, rows_E: np.ndarray) -> dict[int, str]:
    """New ids, by place in `rows_E`, for rows whose id occurred before: `-2`, `-3`, or the next that is free."""
    ids_E = index.ids_N.take(pa.array(rows_E))
    _, firsts = np.unique(ids_E.dictionary_encode().indices.to_numpy(), return_index=True)
    # Only ids with a dash can collide with a new one; a set of all ids would take 100 bytes a row.
    taken = {row_id for row_id in texts_of(ids_E) if "-" in row_id}
    numbers: Counter[str] = Counter()
    found: dict[int, str] = {}
    for entry in np.setdiff1d(np.arange(len(rows_E)), firsts).tolist():
        row_id = ids_E[entry].as_py()
        while (new_id := f"{row_id}-{numbers[row_id] + 2}") in taken:
            numbers[row_id] += 1
        taken.add(new_id)
        found[entry] = new_id
    return found


def write_shuffled(index: Index, rows_E: np.ndarray, out: Path, *, seed: int) -> None:
    """Write these rows in the order of a hash of seed and new id.

    It is another hash than the draw's, by which names with a small share would all come first.
    """
    new_ids = name_copies(index, rows_E)
    ids_E = texts_of(index.ids_N.take(pa.array(rows_E)))
    final_ids = (new_ids.get(entry, row_id) for entry, row_id in enumerate(ids_E))
    keys_E = hashed_numbers(final_ids, salt=f"mix order:{seed}", num_texts=len(rows_E))
    place_E = np.empty(len(rows_E), dtype=np.int64)
    place_E[np.argsort(keys_E, kind="stable")] = np.arange(len(rows_E))
    folder = out / "bins"
    # An interrupted run leaves its bins, and the stage continues in the same folder.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    size = max(index.num_rows_per_group, math.ceil(len(rows_E) / MAX_NUM_BINS))
    bins = [folder / f"{number}.arrow" for number in range(math.ceil(len(rows_E) / size))]
    _write_bins(index, rows_E, place_E, new_ids, bins, size)
    index.write(map(_read_sorted, bins), out)
    shutil.rmtree(folder)


def _write_bins(
    index: Index, rows_E: np.ndarray, place_E: np.ndarray, new_ids: Mapping[int, str], bins: Sequence[Path], size: int
) -> None:
    """Write each row with its new id and its place; the n-th bin holds the n-th `size` places, unsorted."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with ExitStack() as stack:
        schema = index.schema.append(PLACE)
        writers = [stack.enter_context(pa.ipc.new_stream(str(file), schema, options=options)) for file in bins]
        for first, batch in index.batches():
            start, stop = np.searchsorted(rows_E, [first, first + batch.num_rows]).tolist()
            taken = pa.Table.from_batches([batch]).select(index.schema.names).take(pa.array(rows_E[start:stop] - first))
            ids = [new_ids.get(start + entry, row_id) for entry, row_id in enumerate(taken["id"].to_pylist())]
            places = place_E[start:stop]
            named = taken.set_column(0, "id", pa.array(ids, pa.string())).cast(index.schema)
            placed = named.append_column(PLACE, pa.array(places))
            for number in np.unique(places // size).tolist():
                writers[number].write_table(placed.filter(pa.array(places // size == number)))


def _read_sorted(file: Path) -> pa.RecordBatch:
    with pa.ipc.open_stream(str(file)) as stream:
        return stream.read_all().sort_by("place").drop_columns(["place"]).combine_chunks().to_batches()[0]
