"""Subsets: nested, by hash, and nothing lost on the way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from baihua.chat.types import Message
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.data.draw.choose import By, draw_rows, find_heldout
from baihua.data.draw.index import Index, read_index
from baihua.data.rows import Row, read_rows, write_rows

PLACES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), min_size=1, max_size=60)


def index_of(places: list[tuple[int, int]]) -> Index:
    """An index of rows with these groups and sources."""
    groups, sources = zip(*places, strict=True)
    ids = pa.array([f"{number:016x}" for number in range(len(places))])
    names = [f"s{n}" for n in range(4)]
    return Index([], names, ids, pa.array([f"g{n}" for n in groups]), np.zeros(len(ids)), np.array(sources))


def drawn(index: Index, num_rows: int, seed: int = 0, by: By = "all") -> set[int]:
    return set(np.flatnonzero(draw_rows(index, num_rows=num_rows, seed=seed, by=by)).tolist())


@given(PLACES, st.integers(1, 60), st.integers(1, 60), st.integers(0, 9), st.sampled_from(["all", "source"]))
def test_a_smaller_subset_is_inside_a_larger(places: Any, a: int, b: int, seed: int, by: By) -> None:
    small, large = (drawn(index_of(places), min(size, len(places)), seed, by) for size in sorted((a, b)))
    assert small <= large
    assert len(large) == min(max(a, b), len(places))


@given(PLACES, st.integers(1, 60), st.integers(0, 9))
def test_at_most_one_group_is_taken_in_part(places: Any, num_rows: int, seed: int) -> None:
    taken = drawn(index_of(places), min(num_rows, len(places)), seed)
    inside, outside = ({places[n][0] for n in range(len(places)) if (n in taken) == side} for side in (True, False))
    assert len(inside & outside) <= 1


@given(PLACES, st.integers(1, 60), st.integers(0, 9))
def test_by_source_each_source_has_its_share(places: Any, num_rows: int, seed: int) -> None:
    num_rows = min(num_rows, len(places))
    taken = drawn(index_of(places), num_rows, seed, by="source")
    sources = [source for _, source in places]
    for source in set(sources):
        share = sources.count(source) / len(places)
        num_taken = sum(sources[n] == source for n in taken)
        # Half a row for each source, and what the others' halves shift.
        assert abs(num_taken - share * num_rows) <= 0.5 + share * len(set(sources)) / 2 + 1e-9


def test_another_seed_takes_other_rows() -> None:
    index = index_of([(n, 0) for n in range(100)])
    assert drawn(index, 50, seed=1) != drawn(index, 50, seed=2)


def rows_of(num_rows: int) -> list[Row]:
    talks = [(Message("user", f"问{n}", f"料{n}"), Message("assistant", f"答{n}")) for n in range(num_rows)]
    return [Row(f"{n:016x}", talk, f"s{n % 2}", "a.jsonl", n + 1, f"g{n}", {"n": n}) for n, talk in enumerate(talks)]


def run_subset(rows: list[Row], folder: Path, **fields: Any) -> dict[str, Any]:
    write_rows(rows, folder / "in")
    stage = kinds.find("baihua.stages", "subset")
    (folder / "out").mkdir()
    return stage.run(stage.Config(**fields), {"data": folder / "in"}, folder / "out")


def test_every_row_is_kept_as_it_was_or_listed(tmp_path: Path) -> None:
    rows = rows_of(100)
    figures = run_subset(rows, tmp_path, share=0.3)
    kept = read_rows(tmp_path / "out")
    left = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()
    assert kept == [row for row in rows if row in kept]
    assert sorted([row.id for row in kept] + [row["id"] for row in left]) == [row.id for row in rows]
    assert (figures["num_rows_in"], figures["num_rows_kept"], len(kept)) == (100, 30, 30)
    assert figures["num_rows_dropped"] == {"not_drawn": 70}
    assert sum(figures["num_rows_by_source"].values()) == 30


def test_a_row_not_drawn_is_listed_with_its_messages(tmp_path: Path) -> None:
    run_subset(rows_of(2), tmp_path, num_rows=1)
    row = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()[0]
    n = row["line"] - 1
    assert (row["reason"], row["detail"]) == ("not_drawn", "beyond the first 1 rows")
    wanted = [{"role": "user", "content": f"问{n}", "input": f"料{n}"}, {"role": "assistant", "content": f"答{n}"}]
    assert json.loads(row["row"]) == {"messages": wanted}


def test_rows_of_many_batches_come_through(tmp_path: Path) -> None:
    rows = rows_of(200)
    write_rows(rows, tmp_path / "in")
    index = read_index([tmp_path / "in"], num_rows_per_batch=9)
    is_drawn = draw_rows(index, num_rows=150, seed=0)
    index.write_chosen(is_drawn, tmp_path / "out")
    index.write_not_drawn((~is_drawn).astype(np.uint8), tmp_path / "out", details=("", "why"))
    assert read_rows(tmp_path / "out") == [row for row, is_kept in zip(rows, is_drawn, strict=True) if is_kept]
    left = pq.read_table(tmp_path / "out" / "dropped.parquet")
    assert left["line"].to_pylist() == [row.line for row, is_kept in zip(rows, is_drawn, strict=True) if not is_kept]
    assert set(left["detail"].to_pylist()) == {"why"}


def test_a_subset_is_not_one_side_of_a_split_of_the_same_seed(tmp_path: Path) -> None:
    run_subset(rows_of(2000), tmp_path, share=0.1)
    is_heldout = find_heldout(read_index([tmp_path / "out"]), heldout_share=0.1, seed=0)
    assert len(is_heldout) == 200
    assert 5 <= is_heldout.sum() <= 45


def test_rows_without_a_group_are_drawn_one_by_one(tmp_path: Path) -> None:
    rows = [Row(row.id, row.messages) for row in rows_of(50)]
    write_rows(rows, tmp_path)
    index = read_index([tmp_path])
    assert drawn(index, 25, seed=1) != drawn(index, 25, seed=2)


def test_more_rows_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a subset of 8 rows was requested, the data has 7\n.*\n  fix:   take fewer"):
        run_subset(rows_of(7), tmp_path, num_rows=8)


@pytest.mark.parametrize("fields", [{}, {"num_rows": 5, "share": 0.5}])
def test_a_size_is_given_in_one_way(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="give either num_rows or share"):
        kinds.find("baihua.stages", "subset").Config(**fields)


def test_what_holds_no_conversations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no conversations or documents found\n.*\n  fix:   use the output of"):
        read_index([tmp_path / "nowhere"])
    (tmp_path / "in" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="fix:   name one of its parts: train"):
        read_index([tmp_path / "in"])


def test_what_is_no_parquet_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("not parquet", encoding="utf-8")
    with pytest.raises(InputError, match=r"not a readable Parquet file(?s:.*)fix:   import other files first"):
        read_index([tmp_path / "a.parquet"])
    pq.write_table(pa.table({"id": ["a"], "group": ["g"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="columns are missing: file, line, messages, meta, source"):
        read_index([tmp_path / "b.parquet"])
