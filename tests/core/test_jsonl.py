"""JSON Lines: file and line in every error, never half a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import write_lines
from hypothesis import given
from hypothesis import strategies as st

from baihua.core.errors import InputError
from baihua.core.files import read_jsonl, write_json, write_jsonl

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
