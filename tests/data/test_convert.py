"""Files become rows: counts add up, and every bad record is named."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_stages import import_files
from fakes import talk, write_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from baihua.core.errors import InputError
from baihua.data.drafts import Bad, check_turns
from baihua.data.formats import bilingual
from baihua.data.read.files import find_files
from baihua.data.rows import DROPPED_SCHEMA, FILE, message_id, number_repeats, read_rows, write_rows

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
MESSAGES = {"kind": "messages"}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([GOOD, *BAD]), max_size=8), st.none() | st.integers(1, 9))
def test_every_record_is_kept_or_dropped(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], limit: int | None
) -> None:
    folder = tmp_path_factory.mktemp("data")
    file = write_lines(folder / "rows.jsonl", [GOOD, *values])
    made = import_files(folder, file, limit=limit, format=MESSAGES)
    num_records = made.figures["num_rows_in"]
    assert num_records == min(limit or 99, len(values) + 1)
    lines = [row.line for row in made.rows] + [line for line, _ in made.reasons]
    assert sorted(lines) == list(range(1, num_records + 1))


def test_the_counts_add_up_with_two_languages(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "b.jsonl", [bilingual.EXAMPLE, "{", bilingual.EXAMPLE])
    figures = import_files(tmp_path, file, format={"kind": "bilingual", "language": "both"}).figures
    assert figures["num_rows_dropped"] == {"not_json": 1}
    assert figures["num_rows_added"] == {"more_rows_per_record": 2}
    assert figures["num_rows_kept"] == 4


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", r"not_json \(Expecting property name .* at column 2\)"),
        ("[1]", r"not_json \(expected an object, found list\)"),
        ('{"a": 1, "a": 2}', r"not_json \(the key 'a' is there twice\)"),
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
        InputError, match=message + r".*\n  where: .*a\.jsonl:2\n  fix:   correct the record, or set `bad_rows: drop`"
    ):
        import_files(tmp_path, file, bad_rows="stop")


def test_the_first_bad_row_of_the_first_file_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write_lines(tmp_path / name, [GOOD, "{", "["]) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(InputError, match=r"a\.jsonl:2"):
        import_files(tmp_path, *files, bad_rows="stop")


def test_records_of_no_known_format_stop_with_their_keys(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", [{"frage": "?", "antwort": "!"}])
    with pytest.raises(
        InputError, match=r"unknown_format \(no format has the keys frage, antwort\)\n.*\n  fix:   name its format and"
    ):
        import_files(tmp_path, file, bad_rows="stop")
    columns = {"kind": "alpaca", "instruction": "frage", "output": "antwort"}
    assert import_files(tmp_path / "2", file, format=columns).texts == ["!"]


def test_no_usable_row_says_why_the_first_was_dropped(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"none of 1 records can be used\n.*\n  fix:   the first one was dropped because: not_json"
    ):
        import_files(tmp_path, write_lines(tmp_path / "a.jsonl", ["{"]))


def test_empty_data_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of 0 records can be used\n.*\n  fix:   the files are empty"):
        import_files(tmp_path, write_lines(tmp_path / "a.jsonl", []))


def test_each_file_has_the_format_that_it_looks_like(tmp_path: Path) -> None:
    files = [
        write_lines(tmp_path / "a.jsonl", [GOOD]),
        write_lines(tmp_path / "b.jsonl", [{"instruction": "问", "output": "答"}]),
        write_lines(
            tmp_path / "c.jsonl", [{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}]
        ),
    ]
    made = import_files(tmp_path, *files)
    assert made.figures["formats"] == {"messages": 1, "alpaca": 1, "sharegpt": 1}
    assert made.texts == ["你好！", "答", "a"]


def test_documents_are_no_conversations(tmp_path: Path) -> None:
    text = write_lines(tmp_path / "a.jsonl", [{"text": "第一篇。"}, {"text": " "}, {"text": "第二篇。"}])
    made = import_files(tmp_path, text)
    assert (made.texts, made.reasons) == (["第一篇。", "第二篇。"], [(2, "empty_text")])
    talks = write_lines(tmp_path / "b.jsonl", [GOOD])
    with pytest.raises(
        InputError, match=r"one data set cannot hold both 2 documents and 1 conversations\n.*\n.*messages, text"
    ):
        import_files(tmp_path / "2", text, talks)


def test_questions_without_answers_are_rows(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "q.jsonl", [{"question_id": 1, "text": "你好吗？", "category": "Open QA"}])
    (row,) = import_files(tmp_path, file).rows
    assert [m.content for m in row.messages] == ["你好吗？"]
    assert row.meta["category"] == "open qa"


def test_what_is_to_be_kept_goes_into_meta(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", [GOOD | {"info": {"score": 4}, "n": 1}, GOOD])
    rows = import_files(tmp_path, file, keep=["info.score", "n.x"]).rows
    assert [row.meta for row in rows] == [{"info.score": 4}, {}]


def test_source_and_licence_are_the_users_or_the_files(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "forum.2024.jsonl", [GOOD])
    assert import_files(tmp_path / "1", file).figures["sources"] == {"forum": {"licence": None, "num_rows": 1}}
    named = import_files(tmp_path / "2", file, source="论坛", licence="CC-BY-4.0").figures["sources"]
    assert named == {"论坛": {"licence": "CC-BY-4.0", "num_rows": 1}}


def test_many_shards_are_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_lines(tmp_path / "a.jsonl", [talk(f"问{n % 7}", "答") for n in range(40)])
    whole = import_files(tmp_path / "1", file)
    monkeypatch.setattr("baihua.data.shards.NUM_SHARD_ROWS", 9)
    in_shards = import_files(tmp_path / "2", file)
    assert in_shards.rows == whole.rows
    assert in_shards.figures == whole.figures


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
        ("no.jsonl", "no data files found\n.*\n  fix:   name a file, folder or pattern of .json, .json.gz"),
        ("*.csv", "no data files found"),
        ("x.txt", r"cannot read files like 'x\.txt'"),
        ("starter:idenity", r"the starter set has no category 'idenity' \(known: brainstorming,"),
    ],
)
def test_a_name_that_finds_nothing_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "x.txt").touch()
    with pytest.raises(InputError, match=message):
        find_files([name if name.startswith("starter:") else str(tmp_path / name)])


def test_rows_are_the_same_after_parquet(tmp_path: Path) -> None:
    rows = import_files(tmp_path, write_lines(tmp_path / "a.jsonl", [GOOD, talk("a", "b", group="g"), GOOD])).rows
    write_rows(rows, tmp_path)
    assert read_rows(tmp_path) == read_rows(tmp_path / FILE) == rows
    assert [row.group for row in rows] == [rows[0].id, "g", rows[0].id]


def test_the_id_is_the_messages_and_repeats_are_numbered(tmp_path: Path) -> None:
    rows = import_files(tmp_path, write_lines(tmp_path / "a.jsonl", [GOOD, GOOD, talk("a", "b"), GOOD])).rows
    assert rows[0].id == message_id(rows[0].messages)
    assert [row.id for row in rows[1:]] == [rows[0].id + "-2", message_id(rows[2].messages), rows[0].id + "-3"]
    assert list(number_repeats("aba")) == ["a", "b", "a-2"]
    check_turns(rows[0].messages)


def test_questions_alone_are_a_fault_only_where_answers_are_wanted(tmp_path: Path) -> None:
    rows = import_files(tmp_path, write_lines(tmp_path / "a.jsonl", [GOOD])).rows
    question = rows[0].messages[:1]
    check_turns(question, is_answered=False)
    with pytest.raises(Bad, match="no_question"):
        check_turns(rows[0].messages, is_answered=False)


def test_a_folder_without_conversations_names_its_parts(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no conversations .*found\n.*\n  fix:   use the output of import_data or split"
    ):
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


def test_documents_are_refused_where_conversations_are_wanted(tmp_path: Path) -> None:
    made = import_files(tmp_path, write_lines(tmp_path / "a.jsonl", [{"text": "第一篇。"}]))
    with pytest.raises(InputError, match=r"expected conversations, found documents\n"):
        read_rows(made.folder)


def test_dropped_rows_stay_with_their_reason(tmp_path: Path) -> None:
    made = import_files(tmp_path, write_lines(tmp_path / "a.jsonl", [GOOD, "{"]))
    assert pq.read_schema(made.folder / "dropped.parquet") == DROPPED_SCHEMA
    (row,) = made.dropped
    assert (row["file"], row["line"], row["reason"], row["row"]) == ("a.jsonl", 2, "not_json", "{")
