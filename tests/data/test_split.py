"""Holding out: by the hash of the group."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baihua.chat.types import Message
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.data.draw.choose import find_heldout, group_fraction
from baihua.data.draw.index import Index
from baihua.data.rows import Row, read_rows, write_rows

GROUPS = st.lists(st.sampled_from([f"g{n}" for n in range(30)]), min_size=1, max_size=40)


def rows_of(groups: list[str]) -> list[Row]:
    return [Row(f"{n:016x}", (Message("user", "a"), Message("assistant", "b")), group=g) for n, g in enumerate(groups)]


def sides(groups: list[str], share: float, seed: int) -> list[bool]:
    texts, numbers = pa.array(groups), np.zeros(len(groups), np.int32)
    index = Index([], ["s"], texts, texts, numbers, numbers)
    return find_heldout(index, heldout_share=share, seed=seed).tolist()


@given(GROUPS, st.floats(0.01, 0.99), st.integers(0, 5))
def test_every_row_is_on_one_side_and_no_group_on_both(groups: list[str], share: float, seed: int) -> None:
    is_heldout = sides(groups, share, seed)
    assert len(is_heldout) == len(groups)
    assert not {g for g, held in zip(groups, is_heldout, strict=True) if held} & {
        g for g, held in zip(groups, is_heldout, strict=True) if not held
    }


@given(GROUPS, GROUPS)
def test_a_row_keeps_its_side_when_others_are_added(groups: list[str], more: list[str]) -> None:
    assert sides(groups + more, 0.3, 1)[: len(groups)] == sides(groups, 0.3, 1)


def test_about_the_wanted_share_is_held_out() -> None:
    held = [group_fraction(f"group {n}", 3) < 0.1 for n in range(5000)]
    assert 0.09 < sum(held) / len(held) < 0.11


def test_another_seed_holds_out_other_groups() -> None:
    fractions = [group_fraction("g", seed) for seed in range(5)]
    assert len(set(fractions)) == 5
    assert all(0 <= fraction < 1 for fraction in fractions)


def run_split(rows: list[Row], folder: Path) -> dict[str, int]:
    write_rows(rows, folder / "in")
    stage = kinds.find("baihua.stages", "split")
    return stage.run(stage.Config(heldout_share=0.5), {"data": folder / "in"}, folder / "out")


def test_the_stage_writes_two_parts_whose_counts_add_up(tmp_path: Path) -> None:
    figures = run_split(rows_of([f"g{n}" for n in range(20)]), tmp_path)
    parts = {part: read_rows(tmp_path / "out" / part) for part in ("train", "heldout")}
    assert figures["num_rows_in"] == figures["num_rows_kept"] == sum(map(len, parts.values())) == 20
    assert figures["num_rows_heldout"] == len(parts["heldout"])


def test_one_group_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"2 rows in 1 groups are too few to hold out 50%: one side(?s:.*)fix:   use more"
    ):
        run_split(rows_of(["g", "g"]), tmp_path)
