import json
import sys
from pathlib import Path

import pytest

from baihua.chat.types import Message, Sampling
from baihua.core.errors import InputError
from baihua.serve.terminal.commands import load, save
from baihua.serve.terminal.session import Session


@pytest.fixture
def session() -> Session:
    return Session(system="说中文", sampling=Sampling())


def talk(session: Session, num_turns: int) -> None:
    for number in range(num_turns):
        session.ask(f"问{number}")
        session.answer(f"答{number}")


def test_the_system_message_comes_first_and_can_be_missing(session: Session) -> None:
    session.ask("你好")
    assert session.sent(0) == [Message("system", "说中文"), Message("user", "你好")]
    session.system = None
    assert session.sent(0) == [Message("user", "你好")]


def test_a_new_question_takes_the_place_of_one_never_answered(session: Session) -> None:
    session.ask("一")
    session.ask("二")
    assert session.turns == [Message("user", "二")]


def test_an_empty_answer_leaves_the_question_open(session: Session) -> None:
    session.ask("一")
    session.answer(" \n")
    assert session.turns == [Message("user", "一")]


def test_space_around_texts_is_not_kept(session: Session) -> None:
    session.ask(" 一\n")
    session.answer("\n 答\n二 ")
    assert [turn.content for turn in session.turns] == ["一", "答\n二"]


def test_a_question_is_reopened_by_forgetting_its_answer(session: Session) -> None:
    assert not session.reopen()
    talk(session, 1)
    assert session.reopen() and session.turns == [Message("user", "问0")]
    assert session.reopen(), "an open question can be asked again too"


def test_an_answer_that_was_put_aside_comes_back_where_no_other_came(session: Session) -> None:
    talk(session, 1)
    session.reopen()
    session.settle()
    assert [turn.content for turn in session.turns] == ["问0", "答0"]
    session.reopen()
    session.answer("新")
    session.settle()
    assert [turn.content for turn in session.turns] == ["问0", "新"]


def test_what_is_left_out_is_not_sent_and_stays(session: Session) -> None:
    talk(session, 2)
    session.ask("现在")
    assert session.most_left_out == 2
    session.num_left_out = 1
    assert [message.content for message in session.sent()] == ["说中文", "问1", "答1", "现在"]
    assert [message.content for message in session.sent(9)] == ["说中文", "现在"]
    assert len(session.sent(0)) == 6


def test_half_a_character_becomes_a_question_mark(session: Session) -> None:
    session.ask("好\ud83d")
    assert session.turns[0].content == "好?"


def test_a_system_message_in_the_middle_is_refused(session: Session) -> None:
    with pytest.raises(InputError, match="the conversation has a system message after its beginning"):
        session.replace([Message("user", "问"), Message("system", "乱")])


def test_a_saved_conversation_is_one_row_of_messages_without_the_open_question(
    session: Session, tmp_path: Path
) -> None:
    talk(session, 1)
    session.ask("没答")
    file = save(session.answered(), tmp_path / "chats", "我的对话.jsonl")
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "messages": [
            {"role": "system", "content": "说中文"},
            {"role": "user", "content": "问0"},
            {"role": "assistant", "content": "答0"},
        ]
    }
    assert file.stat().st_mode & 0o077 == 0 or sys.platform == "win32"
    assert load(tmp_path, "chats/我的对话.jsonl") == session.answered()


def test_saving_never_overwrites(session: Session, tmp_path: Path) -> None:
    talk(session, 1)
    files = [save(session.answered(), tmp_path, "a.jsonl") for _ in range(3)]
    assert [file.name for file in files] == ["a.jsonl", "a-2.jsonl", "a-3.jsonl"]


def test_without_a_name_the_file_is_named_by_the_time(session: Session, tmp_path: Path) -> None:
    talk(session, 1)
    assert save(session.answered(), tmp_path / "chats").match("chats/chat-*-*.jsonl")


def test_a_conversation_without_an_answer_is_not_one(session: Session) -> None:
    session.ask("没答")
    assert session.answered() == []


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"(?s)cannot save: .*file/a\.jsonl.*choose another file"):
        save([Message("user", "问")], tmp_path, "file/a.jsonl")


def test_a_row_of_any_file_can_be_loaded_by_its_line(tmp_path: Path) -> None:
    rows = ['{"messages": [{"role": "user", "content": "一", "input": "料"}]}', '{"other": 1}', '{"messages": [7]}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    assert load(tmp_path, "a.jsonl:1") == load(tmp_path, "a.jsonl") == [Message("user", "一", "料")]
    with pytest.raises(
        InputError, match=r"(?s)not a conversation: expected a list of turns under 'messages'.*a\.jsonl:2"
    ):
        load(tmp_path, "a.jsonl:2")
    with pytest.raises(InputError, match=r"(?s)expected role and content, found 7.*a\.jsonl:3.*roles: system, user"):
        load(tmp_path, "a.jsonl:3")
    with pytest.raises(InputError, match="line 9 of the file has no row"):
        load(tmp_path, "a.jsonl:9")
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="the file is empty"):
        load(tmp_path, "empty.jsonl")
    with pytest.raises(InputError, match="cannot read the file"):
        load(tmp_path, "none.jsonl")
