"""Files become rows: counts add up, and every bad record is named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.data.files import find_files, read_records
from baihua.data.formats import bilingual, messages
from baihua.data.reading import Rows, read_files
from baihua.data.rows import DROPPED_SCHEMA, FILE, find_fault, message_id, number_repeats, read_rows, write_rows
from fakes import talk, write_lines

GOOD = talk("你好", "你好！")
BAD: list[Any] = [
    "{",
    "[1]",
    '{"messages": "x"}',
    {"messages": []},
    talk("只有问题"),
    talk(" ", "x"),
    '{"a": "\\ud800"}',
]


def read(*files: Path, bad_rows: Any = "drop", limit: int | None = None) -> Rows:
    config = messages.Config()
    return read_files(list(files), lambda r: messages.convert(r, config), bad_rows=bad_rows, limit=limit)


@given(st.lists(st.sampled_from([GOOD, *BAD]), max_size=8), st.none() | st.integers(1, 9))
def test_every_record_is_kept_or_dropped(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], limit: int | None
) -> None:
    file = write_lines(tmp_path_factory.mktemp("data") / "rows.jsonl", [GOOD, *values])
    rows = read(file, limit=limit)
    assert rows.num_records == min(limit or 99, len(values) + 1)
    assert len(rows.kept) + len(rows.dropped) == rows.num_records
    assert sorted([r.line for r in rows.kept] + [r.line for r in rows.dropped]) == list(range(1, rows.num_records + 1))


def test_the_stages_counts_add_up_with_two_languages(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "b.jsonl", [bilingual.EXAMPLE, "{", bilingual.EXAMPLE])
    stage = kinds.find("baihua.stages", "import_data")
    config = stage.Config(files=[str(file)], format={"kind": "bilingual", "language": "both"}, bad_rows="drop")
    figures = stage.run(config, {}, tmp_path)
    assert figures["num_rows_in"] + figures["num_rows_added"]["second_language"] == figures["num_rows_kept"] + 1
    assert figures["num_rows_dropped"] == {"not_json": 1}
    assert figures["num_rows_kept"] == len(read_rows(tmp_path)) == 4


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", r"not_json \(Expecting property name .* at column 2\)"),
        ("[1]", r"not_json \(expected an object, found list\)"),
        ('{"a": "\\ud800"}', r"not_json \(half of a surrogate pair"),
        (talk("只有问题"), r"no_assistant_turn \(1 messages, none of the assistant\)"),
        (talk("a", "b", "c"), r"ends_with_user \(the last turn has no answer\)"),
        (talk("a", " "), r"empty_text \(turn 2 \(assistant\) is empty\)"),
        (
            {"messages": [{"role": "assistant", "content": "x"}]},
            r"roles_out_of_order \(turn 1 is 'assistant', expected 'user'\)",
        ),
        ({"messages": [{"role": "robot", "content": "x"}]}, r"unknown_role \('robot'; the roles are: system, user"),
    ],
)
def test_a_bad_row_stops_with_file_line_and_fix(tmp_path: Path, bad: Any, message: str) -> None:
    file = write_lines(tmp_path / "a.jsonl", [GOOD, bad])
    with pytest.raises(
        InputError, match=message + r".*\n  where: .*a\.jsonl:2\n  fix:   mend the row, or set `bad_rows: drop`"
    ):
        read(file, bad_rows="stop")


def test_no_usable_row_says_why_the_first_was_dropped(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no usable row in 1 records\n.*\n  fix:   the first one was dropped because: not_json"
    ):
        read(write_lines(tmp_path / "a.jsonl", ["{"]))


def test_empty_data_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no usable row in 0 records\n.*\n  fix:   the data is empty; check the files"
    ):
        read(write_lines(tmp_path / "a.jsonl", []))


def layouts(rows: list[Any]) -> dict[str, bytes]:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    return {
        "a.jsonl": lines,
        "b.jsonl.gz": gzip.compress(lines),
        "c.jsonl": b"\xef\xbb\xbf" + lines,
        "d.json": json.dumps(rows).encode(),
        "e.json.gz": gzip.compress(json.dumps(rows, indent=2).encode()),
        "f.json": lines,
        "g.jsonl": lines.replace(b"\n", b"\r\n"),
    }


@pytest.mark.parametrize("name", layouts([]))
def test_every_layout_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    rows = [GOOD, talk("再见", "再见！")]
    (tmp_path / name).write_bytes(layouts(rows)[name])
    assert [record.value for record in read_records(tmp_path / name)] == rows


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl.gz", gzip.compress(b"{}" * 99)[:-12], "the compressed file is damaged"),
        ("a.jsonl.gz", b"\x1f\x8b\x08\x00" + b"\x00" * 6 + b"\xff" * 20, "the compressed file is damaged"),
        ("a.jsonl.gz", b"{}", "the compressed file is damaged: Not a gzipped file"),
        ("a.jsonl", "白话".encode("gbk"), r"the file is not UTF-8: .* at byte 0\n.*\n  fix:   convert it to UTF-8"),
        ("a.json", b"[{},\n{", r"not valid JSON: .*\n  where: .*a\.json:2"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        list(read_records(tmp_path / name))


def test_a_broken_line_is_a_record_with_its_fault(tmp_path: Path) -> None:
    records = list(read_records(write_lines(tmp_path / "a.jsonl", ['{"a": 1}', '{"a": '])))
    assert [(r.line, r.value, r.fault) for r in records] == [
        (1, {"a": 1}, ""),
        (2, None, "Expecting value at column 6"),
    ]


def test_names_mean_files_folders_patterns_and_shipped_sets(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    files = [write_lines(tmp_path / name, [GOOD]) for name in ("b.jsonl", "a.json", "sub/c.jsonl")]
    (tmp_path / "readme.txt").touch()
    assert find_files([str(tmp_path)]) == [files[1], files[0], files[2]]
    assert find_files([str(tmp_path / "*.json*")]) == [files[1], files[0]]
    assert find_files([str(files[0])]) == [files[0]]
    assert [file.stem for file in find_files(["starter:identity"])] == ["identity"]
    assert len(find_files(["starter:"])) > 10


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.jsonl", "no data file here\n.*\n  fix:   name a file, folder or pattern of .json, .jsonl"),
        ("*.csv", "no data file here"),
        ("x.txt", r"cannot read files like 'x\.txt'"),
        ("starter:idenity", r"the starter set has no category 'idenity' \(known: brainstorming,"),
    ],
)
def test_a_name_that_finds_nothing_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "x.txt").touch()
    with pytest.raises(InputError, match=message):
        find_files([name if name.startswith("starter:") else str(tmp_path / name)])


def test_rows_are_the_same_after_parquet(tmp_path: Path) -> None:
    rows = read(write_lines(tmp_path / "a.jsonl", [GOOD, talk("a", "b", group="g"), GOOD])).kept
    write_rows(rows, tmp_path)
    assert read_rows(tmp_path) == read_rows(tmp_path / FILE) == rows
    assert [row.group for row in rows] == [rows[0].id, "g", rows[0].id]


def test_the_id_is_the_messages_and_repeats_are_numbered(tmp_path: Path) -> None:
    rows = read(write_lines(tmp_path / "a.jsonl", [GOOD, GOOD, talk("a", "b")])).kept
    assert rows[0].id == message_id(rows[0].messages)
    assert rows[1].id == rows[0].id + "-2"
    assert number_repeats("aba") == ["a", "b", "a-2"]
    assert find_fault(rows[0].messages) is None


def test_a_folder_without_conversations_names_its_parts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no conversations here\n.*\n  fix:   use the output of import_data or split"):
        read_rows(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"fix:   name one of its parts: train"):
        read_rows(tmp_path)


def test_a_file_that_is_no_parquet_with_our_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"not a readable Parquet file: (?s:.*)fix:   import other files first"):
        read_rows(tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist([{"id": "x"}]), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="columns are missing: file, group, line, messages, meta, source"):
        read_rows(tmp_path / "b.parquet")


def test_dropped_rows_stay_with_their_reason(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", [GOOD, "{"])
    stage = kinds.find("baihua.stages", "import_data")
    stage.run(stage.Config(files=[str(file)], bad_rows="drop"), {}, tmp_path)
    table = pq.read_table(tmp_path / "dropped.parquet")
    assert table.schema == DROPPED_SCHEMA
    row = table.to_pylist()[0]
    assert (row["file"], row["line"], row["reason"], row["row"]) == ("a.jsonl", 2, "not_json", "{")
