import json
from pathlib import Path

import pytest

from baihua.backends.replay import ReplayChat, open_chat
from baihua.chat.types import Message, Piece, Sampling
from baihua.core.errors import InputError

ROWS = [{"ask": "你好", "answer": "你好！很高兴认识你👋。"}, {"ask": None, "answer": "我不知道。"}]


def script(folder: Path, *rows: object) -> Path:
    file = folder / "script.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def model(tmp_path: Path) -> ReplayChat:
    return open_chat(script(tmp_path, *ROWS))


def pieces_of(model: ReplayChat, text: str, sampling: Sampling | None = None) -> list[Piece]:
    return list(model.stream([Message("system", "短"), Message("user", text)], sampling or Sampling()))


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_the_last_question_gets_its_answer(model: ReplayChat) -> None:
    assert joined(pieces_of(model, "你好")) == ROWS[0]["answer"]


def test_every_other_question_gets_the_fallback(model: ReplayChat) -> None:
    assert joined(pieces_of(model, "天气")) == "我不知道。"


def test_the_input_of_an_instruction_is_part_of_the_question(tmp_path: Path) -> None:
    model = open_chat(script(tmp_path, {"ask": "翻译\nhello", "answer": "你好"}))
    assert joined(list(model.stream([Message("user", "翻译", "hello")], Sampling()))) == "你好"


def test_answers_come_in_pieces_and_the_last_has_reason_and_usage(model: ReplayChat) -> None:
    pieces = pieces_of(model, "你好")
    assert len(pieces) > 2 and all(piece.usage is None for piece in pieces[:-1])
    assert pieces[-1].finish_reason == "stop"
    assert pieces[-1].usage and pieces[-1].usage.num_prompt_tokens == 3
    assert pieces[-1].usage.num_answer_tokens == len("你好！很高兴认识你👋。")


def test_max_tokens_counts_characters(model: ReplayChat) -> None:
    pieces = pieces_of(model, "你好", Sampling(max_tokens=5))
    assert joined(pieces) == "你好！很高"
    assert pieces[-1].finish_reason == "length" and pieces[-1].usage and pieces[-1].usage.num_answer_tokens == 5


def test_a_stop_string_ends_the_answer_unseen(model: ReplayChat) -> None:
    pieces = pieces_of(model, "你好", Sampling(stop=("高兴",)))
    assert joined(pieces) == "你好！很"
    assert pieces[-1].finish_reason == "stop" and pieces[-1].usage and pieces[-1].usage.num_answer_tokens == 4


def test_a_question_without_an_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the script has no answer for '再见'"):
        pieces_of(open_chat(script(tmp_path, ROWS[0])), "再见")


def test_an_empty_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the script has no rows"):
        open_chat(script(tmp_path))


@pytest.mark.parametrize("row", [{}, {"answer": "a"}, {"ask": 1, "answer": "a"}, {"ask": "a", "answer": None}])
def test_a_row_of_another_shape_is_refused_with_its_line(tmp_path: Path, row: object) -> None:
    with pytest.raises(InputError, match=r"(?s)expected `ask` .* and `answer`.*script\.jsonl:2"):
        open_chat(script(tmp_path, ROWS[0], row))


@pytest.mark.parametrize(("number", "name"), [(0, "'你好'"), (1, "null")])
def test_a_second_row_for_a_question_is_refused(tmp_path: Path, number: int, name: str) -> None:
    with pytest.raises(InputError, match=f"the script has a second row with `ask` {name}"):
        open_chat(script(tmp_path, *ROWS, ROWS[number]))
