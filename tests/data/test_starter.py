"""The shipped starter set keeps its promises."""

import json
from collections import Counter
from pathlib import Path

import pytest

import check_starter
from baihua.data.read.files import STARTER_FOLDER, find_files
from baihua.data.read.records import parse, read_records


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    values = [(file.stem, parse(record)) for file in find_files(["starter:"]) for record in read_records(file)]
    return [{"category": stem} | value for stem, value in values if isinstance(value, dict)]


def test_the_checker_finds_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_starter.main() == 0, capsys.readouterr().out


def test_every_file_of_the_folder_is_checked() -> None:
    assert {file.stem for file in STARTER_FOLDER.glob("*.jsonl")} == set(check_starter.SMALLEST)


def test_there_are_at_least_800_conversations(rows: list[dict[str, object]]) -> None:
    assert len(rows) >= 800


def test_at_least_120_dialogues_have_two_to_five_turns(rows: list[dict[str, object]]) -> None:
    lengths = [len(str(row["messages"]).split("'role': 'user'")) - 1 for row in rows if row["category"] == "dialogue"]
    assert len(lengths) >= 120
    assert set(lengths) <= {2, 3, 4, 5}


def test_who_are_you_is_asked_in_at_least_25_wordings_of_one_group(rows: list[dict[str, object]]) -> None:
    groups = Counter(str(row["group"]) for row in rows)
    assert groups["identity-who"] >= 25
    wordings = {json.dumps(row["messages"], ensure_ascii=False) for row in rows if row["group"] == "identity-who"}
    assert len(wordings) == groups["identity-who"]


def test_a_row_with_a_foreign_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "identity.jsonl").write_text('{"group": "identity-x", "messages": [], "odd": 1}\n', encoding="utf-8")
    with pytest.raises(SystemExit, match=r"identity\.jsonl:1: "):
        check_starter.read_category(tmp_path / "identity.jsonl")
