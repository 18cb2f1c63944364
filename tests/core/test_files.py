"""JSON Lines with file and line in every error; files that are written completely or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fakes import write_lines
from hypothesis import given
from hypothesis import strategies as st

from baihua.core.errors import InputError
from baihua.core.files import appearing, read_jsonl, sync, write_json, write_jsonl, write_text

PLAIN = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.dictionaries(PLAIN, PLAIN | st.integers() | st.none(), max_size=3), max_size=4))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    file = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
    write_jsonl(file, rows)
    assert [row for _, row in read_jsonl(file)] == rows


def test_blank_lines_count_but_are_not_rows(tmp_path: Path) -> None:
    assert list(read_jsonl(write_lines(tmp_path / "a.jsonl", ['{"a": 1}', "", '{"a": 2}']))) == [
        (1, {"a": 1}),
        (3, {"a": 2}),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert list(read_jsonl(tmp_path / "a.jsonl")) == [(1, {"a": 1})]


def test_half_a_line_is_named_by_file_and_line(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", ['{"a": 1}', '{"a": '])
    with pytest.raises(
        InputError, match=r"not valid JSON: Expecting value at column 6\n  where: .*a\.jsonl:2\n  fix: "
    ):
        list(read_jsonl(file))


def test_a_line_that_is_no_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a JSON object, found list\n  where: .*:1"):
        list(read_jsonl(write_lines(tmp_path / "a.jsonl", ["[1]"])))


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"a": "白话"}'.encode("gbk"))
    with pytest.raises(InputError, match=r"not UTF-8: .* at byte 7\n.*\n.*convert it to UTF-8"):
        list(read_jsonl(tmp_path / "a.jsonl"))


def test_a_json_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"a": 1}


def test_rows_that_cannot_be_written_leave_the_old_file(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"a": 1}])
    with pytest.raises(TypeError):
        write_jsonl(tmp_path / "a.jsonl", [{"a": 2}, {"a": object()}])
    assert [row for _, row in read_jsonl(tmp_path / "a.jsonl")] == [{"a": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of Windows are others")
def test_a_private_file_stays_private_when_it_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.touch(mode=0o600)
    write_text(file, "白话\n")
    assert (file.read_text(encoding="utf-8"), file.stat().st_mode & 0o777) == ("白话\n", 0o600)


def test_two_writers_of_a_shared_file_do_not_meet(tmp_path: Path) -> None:
    with appearing(tmp_path / "a", is_shared=True) as partial:
        assert str(os.getpid()) in partial.name
        partial.touch()
        write_text(tmp_path / "a", "other")
        assert partial.is_file()


def test_files_and_folders_can_be_synced(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "1")
    sync(tmp_path / "a")
    sync(tmp_path)
