"""The catalogue of named data collections."""

import json
import re
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.core.tables import render_text
from baihua.data.read import catalog
from baihua.data.read.catalog import Entry

ENTRIES = sorted(catalog.load().items())
LEAST: dict[str, Any] = {"title": "白话文", "kind": "text", "languages": ["zh"]}


def rows_of(*names: str) -> int:
    found = [catalog.find(name).num_rows for name in names]
    return sum(count for count in found if count is not None)


def test_names_are_snake_case_sorted_and_never_repeated() -> None:
    names = re.findall(r"^(\S+):$", catalog.FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert names == sorted(catalog.load())
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) for name in names)


def test_there_are_at_least_45_collections_of_every_kind() -> None:
    assert len(ENTRIES) >= 45
    assert {entry.kind for _, entry in ENTRIES} == {"instructions", "dialogues", "text", "questions"}


@pytest.mark.parametrize(("name", "entry"), ENTRIES)
def test_a_format_is_one_of_ours(name: str, entry: Entry) -> None:
    if entry.format is not None:
        kinds.find("baihua.data.formats", entry.format["kind"]).Config.model_validate(entry.format)


@pytest.mark.parametrize(("name", "entry"), ENTRIES)
def test_the_filters_are_ours_and_differ(name: str, entry: Entry) -> None:
    for config in entry.filters:
        kinds.find("baihua.data.filters", config["kind"]).Config.model_validate(config)
    assert len({config["kind"] for config in entry.filters}) == len(entry.filters)


@pytest.mark.parametrize(("name", "entry"), ENTRIES)
def test_what_has_filters_has_defects_and_a_format(name: str, entry: Entry) -> None:
    assert not entry.filters or (entry.defects and entry.format)


def test_no_two_collections_are_the_same_files() -> None:
    places = [(entry.hub, entry.path) for _, entry in ENTRIES if entry.hub]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("names", "num_rows"),
    [
        (["alpaca"], 52_002),
        (["alpaca_zh"], 51_179),
        # The collection Alpaca-CoT counts these together.
        (["belle_multiturn_chat", "belle_school_math"], 1_079_517),
        (["hc3_en", "hc3_zh"], 37_175),
        # aqua, creak, ecqa, gsm8k, qasc, sensemaking and strategyqa.
        (["cot_formatted", "cot_gsm8k"], 2_728 + 6_915 + 7_112 + 7_473 + 1_084 + 6_070 + 2_061),
        (["mt_bench", "vicuna_80"], 80 + 80),
        (["seed_tasks_en", "seed_tasks_zh"], 175 + 175),
        (["belle_eval"], 1_000),
        (["ultrachat", "xp3"], 28_247_446 + 78_883_588),
    ],
)
def test_rows_are_as_the_collections_count_them(names: list[str], num_rows: int) -> None:
    assert rows_of(*names) == num_rows


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_rows": 0},
        {"licence": " "},
        {"hub": "no owner"},
        {"url": "http://example.org"},
        {"languages": []},
        {"languages": ["Chinese"]},
        {"tags": {"task": "many"}},
        {"kind": "images"},
        {"license": "MIT"},
    ],
)
def test_a_wrong_entry_is_refused(wrong: dict[str, Any]) -> None:
    Entry.model_validate(LEAST)
    with pytest.raises(ValidationError):
        Entry.model_validate(LEAST | wrong)


def test_a_name_is_found_with_and_without_the_prefix() -> None:
    assert catalog.find("catalog:belle_1m") == catalog.find("belle_1m")


def test_an_unknown_name_is_told_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"unknown data collection 'bele_1m'; did you mean 'belle_1m'\?") as error:
        catalog.find("bele_1m")
    assert "baihua show catalog" in str(error.value)


def test_the_table_has_a_header_and_a_sorted_row_for_each() -> None:
    table = catalog.table(catalog.load())
    assert table.columns == ["name", "kind", "rows", "tags", "licence", "where"]
    assert [row[0] for row in table.rows] == sorted(catalog.load())
    assert ["belle_1m", "instructions", 917_424, "CN MT SI", "GPL-3.0", "BelleGroup/train_1M_CN"] in table.rows


def test_what_is_not_known_is_a_dash() -> None:
    last = render_text(catalog.table({"x": Entry(**LEAST)})).splitlines()[-1]
    assert last.split() == ["x", "text", "–", "–", "–", "–"]


def test_one_collection_is_shown_whole() -> None:
    shown = catalog.show_one("alpaca_zh_en")
    entry = catalog.find("alpaca_zh_en")
    assert all(text in shown for text in (entry.title, "50,000", "zh, en", "CC BY-NC 4.0", *entry.defects))


@pytest.mark.parametrize(("name", "entry"), ENTRIES)
def test_the_recipe_shown_is_the_recipe_made(name: str, entry: Entry) -> None:
    _, found, text = catalog.show_one(name).partition("# A recipe that imports it")
    shown = yaml.safe_load(text.partition("\n")[2]) if found else None
    assert shown == catalog.recipe(name, entry)


def test_a_recipe_imports_and_repairs() -> None:
    tree = catalog.recipe("cot_formatted", catalog.find("cot_formatted"))
    assert tree is not None
    assert tree["stages"]["raw"] == {
        "stage": "import_data",
        "files": ["catalog:cot_formatted"],
        "format": {"kind": "alpaca"},
        "bad_rows": "drop",
    }
    assert tree["stages"]["clean"]["inputs"] == {"data": "raw"}
    assert {"kind": "literal_newline"} in tree["stages"]["clean"]["filters"]


def test_what_needs_no_repair_is_only_imported() -> None:
    tree = catalog.recipe("belle_eval", catalog.find("belle_eval"))
    assert tree is not None
    assert list(tree["stages"]) == ["raw"]


def test_what_no_format_reads_has_no_recipe() -> None:
    assert catalog.recipe("lima", catalog.find("lima")) is None
    assert "No format is known to read it" in catalog.show_one("lima")


def test_json_holds_what_is_known_and_nothing_else() -> None:
    found = json.loads(catalog.as_json({"x": Entry(**LEAST)}))
    assert found == {"x": LEAST | {"tags": {}, "defects": [], "filters": []}}
    assert list(json.loads(catalog.as_json(catalog.load()))) == sorted(catalog.load())
