"""Sets of questions as the arena, decontamination and a judge read them."""

from pathlib import Path
from typing import Any

import pytest

from baihua.core.errors import InputError
from baihua.data.formats.questions import read_questions, texts_in

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("a.txt", "水？\n\n火？\n", [(None, "水？"), (None, "火？")]),
        ("a.jsonl", '{"question_id": 81, "category": "写作", "turns": ["写", "改"]}\n', [("写作", "写")]),
        ("a.jsonl", '{"question": "一", "std_answer": "1", "class": "closed qa"}\n', [("closed qa", "一")]),
        ("a.json", '[{"id": "x", "instruction": "做"}]', [(None, "做")]),
        ("b.json", '{"question": "一"}\n{"question": " 二\\n"}\n', [(None, "一"), (None, "二")]),
        ("a.csv", "id,prompt,text\n1,问,\n", [(None, "问")]),
        (
            "a.jsonl",
            '{"prompt": [{"role": "system", "content": "短"}, {"role": "user", "content": "问"}]}',
            [(None, "问")],
        ),
    ],
)
def test_questions_of_several_forms(tmp_path: Path, name: str, text: str, wanted: list[Any]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [(one.category, one.text) for one in read_questions(tmp_path / name)] == wanted


def test_a_question_has_its_id_turns_and_reference(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"question_id": 81, "turns": ["写", "改"], "reference": ["甲", "乙"]}\n{"text": "水？"}\n')
    first, second = read_questions(file)
    assert (first.id, first.texts, first.reference) == ("81", ("写", "改"), ["甲", "乙"])
    assert (second.id, second.reference) == ("11cd8efba15cab3d", None), "the id is a hash of the text"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"answer": 1}\n', r"this record has no question\n.*a\.jsonl:2\n.*turns"),
        ("a.json", b"{}", r"this record has no question\n.*a\.json:1"),
        ("a.json", b"[1]", r"this record cannot be read: not_json \(expected an object, found int\)\n.*a\.json:1"),
        ("a.txt", b"\n", "the file has no questions"),
        ("a.txt", "同\n同\n".encode(), r"two questions have the id '.{16}'\n.*a\.txt:2"),
        ("a.txt", b"\xff\xfe", r"this record cannot be read: not_utf8 \(invalid start byte at byte 0\)\n.*a\.txt:1"),
        ("none.txt", None, "no such file"),
    ],
)
def test_files_without_questions_are_refused(tmp_path: Path, name: str, text: bytes | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text)
    with pytest.raises(InputError, match=message):
        read_questions(tmp_path / name)


def test_the_texts_in_a_value_are_those_that_ask() -> None:
    turns = [
        {"role": "user", "content": "一"},
        {"role": "assistant", "content": "二"},
        {"role": "user", "content": "三"},
    ]
    assert texts_in(turns) == ["一", "三"]
    assert texts_in(["一", ["二"], 3, None]) == ["一", "二"]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["vicuna_bench/question.jsonl", "mt_bench/question.jsonl", "belle/eval_set.json"])
def test_real_sets_are_read(name: str) -> None:
    if not (SHARED / name).is_file():
        pytest.skip(f"{name} is not in the shared folder")
    assert len(read_questions(SHARED / name)) >= 80
