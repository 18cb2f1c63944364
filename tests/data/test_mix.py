"""Mixing: shares that hold, draws that stay, and counts that add up."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from baihua.chat.types import Message
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.core.recipe import validate
from baihua.data.draw.index import read_index
from baihua.data.draw.mix import share_out, write_shuffled
from baihua.data.rows import Row, read_rows, write_rows

STAGE = kinds.find("baihua.stages", "mix")
PARTS = {"data": {"belle": 60, "alpaca": 40}, "data_2": {"own": 20}}
COUNTS = st.lists(st.integers(1, 50), min_size=1, max_size=4)
WEIGHTS = st.lists(st.floats(0.01, 10), min_size=4, max_size=4)


def talk(source: str, number: int) -> Row:
    messages = (Message("user", f"{source}第{number}问"), Message("assistant", "好"))
    return Row(f"{source}{number}", messages, source, group=f"{source} {number % 9}", meta={"n": number})


def mix(folder: Path, parts: dict[str, dict[str, int]] = PARTS, **fields: Any) -> tuple[dict[str, Any], list[Row]]:
    """Figures and rows of a mix of inputs with so many rows of each source."""
    for role, sources in parts.items():
        write_rows([talk(source, n) for source, count in sources.items() for n in range(count)], folder / role)
    out = folder / f"out{len(list(folder.glob('out*')))}"
    out.mkdir()
    figures = STAGE.run(STAGE.Config(**fields), {role: folder / role for role in parts}, out)
    assert [path.name for path in sorted(out.iterdir())] == ["conversations.parquet", "dropped.parquet"]
    dropped = pq.read_table(out / "dropped.parquet")
    assert dropped.num_rows == sum(figures["num_rows_dropped"].values())
    assert_counts_add_up(figures)
    return figures, read_rows(out)


def assert_counts_add_up(figures: dict[str, Any]) -> None:
    given, kept = figures["num_rows_in"] + sum(figures["num_rows_added"].values()), figures["num_rows_kept"]
    assert given == kept + sum(figures["num_rows_dropped"].values())
    assert sum(figures["num_rows_by_source"].values()) == kept


def ids(rows: list[Row]) -> set[str]:
    return {row.id for row in rows}


def test_without_settings_all_rows_are_there_as_they_were_and_shuffled(tmp_path: Path) -> None:
    figures, rows = mix(tmp_path)
    given = [talk(source, n) for sources in PARTS.values() for source, count in sources.items() for n in range(count)]
    assert sorted(map(str, rows)) == sorted(map(str, given))
    assert rows != given
    assert figures["num_rows_by_source"] == {"alpaca": 40, "belle": 60, "own": 20}


def test_weights_give_the_largest_result_that_repeats_nothing(tmp_path: Path) -> None:
    figures, rows = mix(tmp_path, weights={"data": 3, "data_2": 1})
    assert figures["num_rows_by_source"]["own"] == 20
    assert (len(rows), figures["num_rows_dropped"]) == (80, {"not_drawn": 40})
    assert figures["share_reached"] == figures["share_wanted"] == {"data": 0.75, "data_2": 0.25}


def test_a_row_counts_for_its_source_where_that_has_a_weight(tmp_path: Path) -> None:
    figures, _ = mix(tmp_path, weights={"data": 1, "belle": 1, "data_2": 2}, num_rows=40)
    assert figures["num_rows_by_source"] == {"alpaca": 10, "belle": 10, "own": 20}


def test_weight_zero_leaves_rows_out(tmp_path: Path) -> None:
    figures, _ = mix(tmp_path, weights={"data": 1, "data_2": 0})
    assert figures["num_rows_by_source"] == {"alpaca": 40, "belle": 60}


def test_too_few_rows_are_told_and_not_filled_from_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="baihua"):
        figures, rows = mix(tmp_path, weights={"data": 1, "data_2": 1}, num_rows=100)
    assert (len(rows), figures["num_rows_missing"]) == (70, {"data_2": 30})
    assert figures["share_reached"] == {"data": 0.7143, "data_2": 0.2857}
    assert "data_2 has 30 rows too few for its share" in caplog.text


def test_repeated_rows_have_new_ids_and_their_old_group(tmp_path: Path) -> None:
    figures, rows = mix(tmp_path, weights={"data": 1, "data_2": 1}, num_rows=100, repeat=True)
    assert (len(ids(rows)), figures["num_rows_added"]) == (100, {"repeated": 30})
    first, second = (next(row for row in rows if row.id == name) for name in ("own3", "own3-2"))
    assert (second.group, second.messages, second.meta) == (first.group, first.messages, first.meta)
    assert figures["num_rows_missing"] == {}


def test_a_cap_limits_a_source_or_an_input(tmp_path: Path) -> None:
    figures, _ = mix(tmp_path, caps={"belle": 10, "data": 30})
    assert figures["num_rows_by_source"]["belle"] <= 10
    assert sum(figures["num_rows_by_source"].values()) == 30 + 20
    details = pq.read_table(tmp_path / "out0" / "dropped.parquet")["detail"].to_pylist()
    assert details == ["beyond its cap"] * 70


def test_the_same_conversation_in_two_inputs_stays_two_rows(tmp_path: Path) -> None:
    _, rows = mix(tmp_path, {"data": {"own": 3}, "data_2": {"own": 3}, "data_3": {"own-2": 1}})
    assert ids(rows) == {"own0", "own1", "own2", "own0-2", "own1-2", "own2-2", "own-20"}


def test_a_new_id_never_meets_one_that_is_there(tmp_path: Path) -> None:
    for role, names in {"data": ["a", "a-2"], "data_2": ["a", "a-2"]}.items():
        write_rows([Row(name, talk("x", 0).messages, "x") for name in names], tmp_path / role)
    STAGE.run(STAGE.Config(), {role: tmp_path / role for role in ("data_2", "data")}, tmp_path)
    assert ids(read_rows(tmp_path)) == {"a", "a-2", "a-3", "a-2-2"}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9), st.integers(1, 60))
def test_rows_drawn_stay_drawn_when_others_are_added(
    tmp_path_factory: pytest.TempPathFactory, seed: int, num_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("mix")
    _, before = mix(folder, {"data": {"a": 60}}, num_rows=num_rows, seed=seed)
    _, after = mix(folder, {"data": {"a": 90}}, num_rows=num_rows, seed=seed)
    assert {row_id for row_id in ids(after) if int(row_id[1:]) < 60} <= ids(before)


def test_the_order_of_the_recipe_and_of_the_rows_makes_no_difference(tmp_path: Path) -> None:
    _, rows = mix(tmp_path, num_rows=50)
    write_rows(list(reversed(read_rows(tmp_path / "data"))), tmp_path / "data")
    (tmp_path / "again").mkdir()
    given = {role: tmp_path / role for role in ("data_2", "data")}
    STAGE.run(STAGE.Config(num_rows=50), given, tmp_path / "again")
    assert read_rows(tmp_path / "again") == rows


def test_a_small_share_is_spread_over_the_whole_result(tmp_path: Path) -> None:
    _, rows = mix(tmp_path, {"data": {"a": 2000}, "data_2": {"b": 2000}}, weights={"data": 0.1, "data_2": 0.9})
    places = [place / len(rows) for place, row in enumerate(rows) if row.source == "a"]
    assert 0.4 < sum(places) / len(places) < 0.6


def test_more_rows_than_a_bin_holds_come_through(tmp_path: Path) -> None:
    write_rows([talk("a", n) for n in range(200)], tmp_path / "in")
    index = read_index([tmp_path / "in"], num_rows_per_batch=9)
    write_shuffled(index, np.sort(np.arange(500) % 200), tmp_path, seed=0)
    rows = read_rows(tmp_path)
    assert len(ids(rows)) == 500
    assert all(row.meta["n"] == int(row.id[1:].split("-")[0]) for row in rows)
    halves = [{row.id for row in rows[:250]}, {row.id for row in rows[250:]}]
    assert all(60 < sum("-" not in row_id for row_id in half) < 140 for half in halves)
    assert pq.ParquetFile(tmp_path / "conversations.parquet").num_row_groups == 500 // 36 + 1


def test_what_an_interrupted_run_left_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / "out" / "bins").mkdir(parents=True)
    (tmp_path / "out" / "bins" / "7.arrow").write_text("half", encoding="utf-8")
    write_rows([talk("a", 0)], tmp_path / "data")
    STAGE.run(STAGE.Config(), {"data": tmp_path / "data"}, tmp_path / "out")
    assert not (tmp_path / "out" / "bins").exists()


@given(COUNTS, WEIGHTS, st.one_of(st.none(), st.integers(1, 500)))
def test_shares_are_as_wanted_to_a_row(counts: list[int], weights: list[float], num_rows: int | None) -> None:
    available = {f"s{n}": count for n, count in enumerate(counts)}
    chosen = {name: weights[n] for n, name in enumerate(available)}
    wanted = share_out(available, chosen, num_rows)
    total = sum(wanted.values())
    whole = sum(Fraction(str(weight)) for weight in chosen.values())
    assert all(abs(wanted[name] - total * Fraction(str(chosen[name])) / whole) < 1 for name in available)
    assert total == num_rows or (num_rows is None and all(wanted[name] <= available[name] for name in available))


def test_weights_mean_what_is_written() -> None:
    assert share_out({"a": 7, "b": 3}, {"a": 0.7, "b": 0.3}, None) == {"a": 7, "b": 3}
    assert share_out({"a": 100, "b": 100}, {"a": 0.1, "b": 0.2}, 30) == {"a": 10, "b": 20}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {"bele": 1}}, r"unknown input or source 'bele'; did you mean 'belle'\? \(known: data, data_2, al"),
        ({"caps": {"x": 1}}, r"unknown input or source 'x' \(known: data, data_2, alpaca, belle, own\)"),
        ({"weights": {"belle": 1, "own": 1}}, r"40 rows have no weight: .*'data', source 'alpaca'\n  fix:   give 'dat"),
        ({"weights": {"own": 1, "data": 1, "data_2": 1}}, r"'data_2' has a weight, but no row counts for it\n"),
    ],
)
def test_wrong_names_are_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mix(tmp_path, **fields)


def test_nothing_to_mix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there are no rows to mix\n  fix:   give non-empty inputs"):
        mix(tmp_path, {"data": {}, "data_2": {}})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {"a": 0.0}}, "all weights are 0"),
        ({"repeat": True}, "repeat needs num_rows"),
        ({"weights": {"a": -1}}, "greater than or equal to 0"),
        ({"caps": {"a": 0}}, "greater than or equal to 1"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        STAGE.Config(**fields)


def test_a_recipe_may_leave_out_the_inputs_beyond_the_first() -> None:
    own = {"stage": "import_data", "files": ["starter:identity"]}
    stages = {"own": own, "all": {"stage": "mix", "inputs": {"data": "own", "data_3": "own"}}}
    recipe = validate({"name": "r", "stages": stages}, folder=Path())
    assert list(recipe.steps[1].inputs) == ["data", "data_3"]
