import json
from pathlib import Path

import pytest

from baihua.chat.types import Message
from baihua.core.errors import InputError
from baihua.serve.session import Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(system="说中文", save_folder=tmp_path / "chats")


def talk(session: Session, num_turns: int) -> None:
    for number in range(num_turns):
        session.ask(f"问{number}")
        session.answer(f"答{number}")


def test_the_system_message_comes_first_and_can_be_missing(session: Session) -> None:
    session.ask("你好")
    assert session.messages == [Message("system", "说中文"), Message("user", "你好")]
    session.system = None
    assert session.messages == [Message("user", "你好")]


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


def test_the_oldest_turn_goes_first_and_the_open_question_stays(session: Session) -> None:
    talk(session, 2)
    session.ask("现在")
    assert session.drop_oldest() and session.messages[0].role == "system"
    assert [turn.content for turn in session.turns] == ["问1", "答1", "现在"]
    assert session.drop_oldest() and not session.drop_oldest()
    assert session.turns == [Message("user", "现在")]


def test_a_saved_conversation_is_one_row_of_messages_without_the_open_question(session: Session) -> None:
    talk(session, 1)
    session.ask("没答")
    file = session.save("我的对话.jsonl")
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "messages": [
            {"role": "system", "content": "说中文"},
            {"role": "user", "content": "问0"},
            {"role": "assistant", "content": "答0"},
        ]
    }


def test_saving_never_overwrites(session: Session) -> None:
    talk(session, 1)
    first, second, third = (session.save("a.jsonl") for _ in range(3))
    assert [file.name for file in (first, second, third)] == ["a.jsonl", "a-2.jsonl", "a-3.jsonl"]


def test_without_a_name_the_file_is_named_by_the_time(session: Session) -> None:
    talk(session, 1)
    assert session.save().match("chats/chat-*-*.jsonl")


def test_an_empty_conversation_is_not_saved(session: Session) -> None:
    session.ask("没答")
    with pytest.raises(InputError, match="nothing to save: no question has been answered yet"):
        session.save()


def test_a_file_that_cannot_be_written_is_told(session: Session, tmp_path: Path) -> None:
    talk(session, 1)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"(?s)cannot save here: .*file/a\.jsonl.*name another file"):
        session.save(str(tmp_path / "file" / "a.jsonl"))
