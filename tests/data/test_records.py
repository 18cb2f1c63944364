"""Files of every kind and packing, whole and damaged."""

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_stages import import_files

from baihua.core.errors import InputError
from baihua.data.read import records
from baihua.data.read.files import find_files
from baihua.data.read.records import parse, read_records

ROWS = [
    {"instruction": "翻译成英文", "input": "你好", "output": "Hello"},
    {"instruction": "写两行，\n用逗号", "input": "", "output": '他说："好，\n再见"'},
]
GOOD = json.dumps(ROWS[0], ensure_ascii=False)


def as_table(delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ROWS[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def as_parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def as_lines(rows: list[Any] = ROWS) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


KINDS = {
    ".jsonl": as_lines(),
    ".json": json.dumps(ROWS, ensure_ascii=False, indent=1).encode(),
    ".csv": as_table(","),
    ".parquet": as_parquet(),
}
PACKINGS = {"": bytes, ".gz": gzip.compress, ".zst": lambda data: pa.compress(data, "zstd", asbytes=True)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packing", PACKINGS)
def test_every_kind_in_every_packing_gives_the_same_rows(tmp_path: Path, kind: str, packing: str) -> None:
    file = tmp_path / f"data{kind}{packing}"
    file.write_bytes(PACKINGS[packing](KINDS[kind]))
    assert [parse(record) for record in read_records(file)] == ROWS


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + as_lines(),
        as_lines().replace(b"\n", b"\r\n"),
        as_lines().replace(b"\n", b"\n\n  \n"),
        as_lines().removesuffix(b"\n"),
    ],
)
def test_marks_and_line_ends_do_not_matter(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    assert [parse(record) for record in read_records(tmp_path / "a.jsonl")] == ROWS


def test_an_array_is_read_block_by_block(tmp_path: Path) -> None:
    items = [*ROWS, 12345, "文" * 700_000, {}, None, 1.5e10, [1, [2]]] * 3
    (tmp_path / "a.json").write_text(json.dumps(items, ensure_ascii=False, indent=2), encoding="utf-8")
    assert [json.loads(record.raw) for record in read_records(tmp_path / "a.json")] == items


def test_a_tab_file_has_no_quotes_and_may_have_no_heading(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('几加几？\t"2\t一加一\n', encoding="utf-8")
    (record,) = read_records(tmp_path / "a.tsv", columns=["question", "answer", "rationale"])
    assert parse(record) == {"question": "几加几？", "answer": '"2', "rationale": "一加一"}


def test_a_row_of_a_csv_file_counts_from_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('q,a\n"x\ny",1\nz\n', encoding="utf-8")
    found = [(record.line, record.reason) for record in read_records(tmp_path / "a.csv")]
    assert found == [(2, ""), (4, "wrong_columns")]


def test_gbk_is_read_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(as_lines().decode().encode("gbk"))
    assert [parse(r) for r in read_records(tmp_path / "a.jsonl", encoding="gb18030")] == ROWS


def cut_short(data: bytes, packing: str) -> bytes:
    packed = PACKINGS[packing](data)
    return packed[: len(packed) * 2 // 3]


def noise(number: int) -> dict[str, str]:
    """A row that does not pack well, so that a cut file still holds whole ones."""
    return {"instruction": "摘要", "input": "", "output": hashlib.sha512(number.to_bytes(4, "big")).hexdigest()}


MANY = as_lines([noise(number) for number in range(3000)])
ITEMS = json.dumps(ROWS, ensure_ascii=False)

# name, bytes, line and reason of what is dropped ("*": some line), whether anything can be used
DAMAGED: list[tuple[str, bytes, list[tuple[int | str, str]], bool]] = [
    ("truncated.jsonl.gz", cut_short(MANY, ".gz"), [("*", "file_damaged")], True),
    ("truncated.jsonl.zst", cut_short(MANY, ".zst"), [("*", "file_damaged")], True),
    ("changed.jsonl.gz", gzip.compress(as_lines())[:-8] + b"\x00" * 8, [("*", "file_damaged")], False),
    ("not.jsonl.gz", as_lines(), [(1, "file_damaged")], False),
    ("bom.jsonl", b"\xef\xbb\xbf" + as_lines(), [], True),
    ("bom-inside.jsonl", as_lines() + b"\xef\xbb\xbf" + as_lines(), [(3, "not_json")], True),
    ("gbk.jsonl", as_lines() + as_lines().decode().encode("gbk"), [(3, "not_utf8"), (4, "not_utf8")], True),
    ("gbk.csv", as_table(",").decode().encode("gbk"), [("*", "not_utf8")], False),
    ("utf16.jsonl", as_lines().decode().encode("utf-16"), [("*", "not_utf8"), ("*", "*")], False),
    ("nul.jsonl", as_lines() + GOOD.replace("你", "\0").encode() + b"\n", [(3, "not_json")], True),
    ("nested.jsonl", as_lines([*ROWS, ROWS[0] | {"output": [["a"], ["b"]]}]), [(3, "no_text")], True),
    ("numbers.jsonl", as_lines([*ROWS, ROWS[0] | {"output": 42}]), [(3, "no_text")], True),
    ("null.jsonl", as_lines([*ROWS, ROWS[0] | {"output": None}]), [(3, "no_text")], True),
    ("twice.jsonl", as_lines() + GOOD.replace("{", '{"output": "x", ').encode() + b"\n", [(3, "not_json")], True),
    ("surrogate.jsonl", as_lines() + rb'{"instruction": "\ud800", "output": "x"}', [(3, "not_json")], True),
    ("array-lines.jsonl", as_lines() + b"[1, 2]\n3\n", [(3, "not_json"), (4, "not_json")], True),
    ("missing.jsonl", as_lines([*ROWS, {"instruction": "没有回答"}]), [(3, "no_text")], True),
    ("empty.jsonl", b"", [], False),
    ("blank.jsonl", b"\n \n\n", [], False),
    ("heading.csv", b"instruction,output\n", [], False),
    ("empty-array.json", b"[]", [], False),
    ("mixed.jsonl", as_lines([*ROWS, {"messages": []}, {"text": "文章"}]), [(3, "no_text"), (4, "no_text")], True),
    ("no-answer.jsonl", as_lines([*ROWS, ROWS[0] | {"output": " \u3000"}]), [(3, "empty_text")], True),
    ("breaks-off.json", ITEMS[:-20].encode(), [(2, "file_damaged")], True),
    ("comma.json", ITEMS.replace("}, {", "} {").encode(), [], True),
    ("after.json", ITEMS.encode() + b" rubbish", [(3, "file_damaged")], True),
    ("columns.csv", as_table(",") + b"a,b,c,d\n", [("*", "wrong_columns")], True),
    ("quotes.csv", as_table(",") + b'"open,b,c\n', [("*", "wrong_columns")], True),
    ("cut.parquet", as_parquet()[:-30], [(1, "file_damaged")], False),
    ("deep.jsonl", as_lines() + b"[" * 100_000 + b"\n", [(3, "not_json")], True),
    ("unknown.jsonl", as_lines([{"a": 1}, {"b": 2}]), [(1, "unknown_format"), (2, "unknown_format")], False),
]


def matches(found: tuple[int, str], wanted: tuple[int | str, str]) -> bool:
    return all(b in ("*", a) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(("name", "data", "dropped", "is_usable"), DAMAGED, ids=[name for name, *_ in DAMAGED])
def test_damage_costs_only_the_rows_it_hits_and_each_says_where(
    tmp_path: Path, name: str, data: bytes, dropped: list[tuple[int | str, str]], is_usable: bool
) -> None:
    (tmp_path / name).write_bytes(data)
    if not is_usable:
        with pytest.raises(InputError, match=r"none of \d+ records can be used\n  where: .*\n  fix:   "):
            import_files(tmp_path, tmp_path / name)
        return
    made = import_files(tmp_path, tmp_path / name)
    assert len(made.reasons) == len(dropped)
    assert all(map(matches, made.reasons, dropped)), made.reasons
    assert all(row["file"] == name for row in made.dropped)


def test_there_are_at_least_25_kinds_of_damage() -> None:
    assert len(DAMAGED) >= 25


def test_an_endless_line_is_dropped_with_its_line(tmp_path: Path) -> None:
    long = '{"instruction": "' + "长" * (records.MAX_NUM_RECORD_BYTES // 2) + '", "output": "x"}\n'
    (tmp_path / "a.jsonl").write_text(GOOD + "\n" + long + GOOD + "\n", encoding="utf-8")
    made = import_files(tmp_path, tmp_path / "a.jsonl")
    assert made.figures["num_rows_kept"] == 2
    (row,) = made.dropped
    assert (row["line"], row["reason"]) == (2, "record_too_long")
    assert len(row["row"]) < 2000


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no data files found\n  where: .*empty\n  fix:   name a file, folder or"):
        find_files([str(tmp_path / "empty")])


def test_a_suffix_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(InputError, match=r"cannot read files like 'a\.xlsx'\n.*\n  fix:   use \.json, \.jsonl, \.csv"):
        find_files([str(tmp_path / "a.xlsx")])


def test_a_file_that_cannot_be_opened_is_no_damaged_row(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_records(tmp_path / "none.jsonl.gz"))
