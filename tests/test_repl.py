import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from prompt_toolkit.output.vt100 import Vt100_Output

from baihua.backends.replay import ReplayChat
from baihua.chat.types import Message, Piece, Sampling, Usage
from baihua.core.errors import InputError, RunError, TooLongError
from baihua.serve.answering import answer, printable
from baihua.serve.commands import COMMANDS, take
from baihua.serve.repl import chat_on_lines, run_repl
from baihua.serve.session import Session
from baihua.serve.terminal import TerminalScreen, chat_on_terminal

ANSWERS = {"你好": "你好！很高兴认识你👋。", "一\n二": "两行", None: "我不知道。"}


class Recorder:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.text = ""
        self.notes: list[str] = []

    def show(self, text: str) -> None:
        self.text += text

    def note(self, text: str) -> None:
        self.notes.append(text)


class Small:
    """A model with room for so many characters, which may break off after its first piece."""

    name = "small"

    def __init__(self, *, room: int = 1000, error: BaseException | None = None, finish: Piece | None = None) -> None:
        self.room, self.error = room, error
        self.finish = finish or Piece("", "stop", Usage(3, 2))
        self.is_closed = False

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        if sum(len(message.content) for message in messages) > self.room:
            raise TooLongError("too long")
        try:
            yield Piece("答")
            if self.error:
                raise self.error
            yield Piece("案")
            yield self.finish
        finally:
            self.is_closed = True

    def close(self) -> None:
        pass


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(system=None, save_folder=tmp_path / "saved")


@pytest.fixture
def model() -> ReplayChat:
    return ReplayChat(ANSWERS, name="script")


def type_in(session: Session, model: ReplayChat, keys: str, history_file: Path | None = None) -> list[str]:
    """Type at the terminal chat; returns what was asked and answered."""
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        pipe.send_text(keys)
        chat_on_terminal(session, model, Sampling(), history_file=history_file)
    return [turn.content for turn in session.turns]


def test_what_is_typed_is_answered(session: Session, model: ReplayChat) -> None:
    assert type_in(session, model, "你好\r/quit\r") == ["你好", ANSWERS["你好"]]


@pytest.mark.parametrize(
    "keys", ["一\x1b\r二\r", "一\\\r二\r", "\x1b[200~一\n二\x1b[201~\r"], ids=["alt", "backslash", "paste"]
)
def test_a_question_may_have_many_lines(session: Session, model: ReplayChat, keys: str) -> None:
    assert type_in(session, model, keys + "/quit\r") == ["一\n二", "两行"]


def test_control_c_at_the_prompt_clears_the_line_and_control_d_leaves(session: Session, model: ReplayChat) -> None:
    assert type_in(session, model, "没完\x03你好\r\x04") == ["你好", ANSWERS["你好"]]


def test_an_empty_line_asks_nothing(session: Session, model: ReplayChat) -> None:
    assert type_in(session, model, "\r  \r/quit\r") == []


def test_what_was_asked_is_remembered_and_private(session: Session, model: ReplayChat, tmp_path: Path) -> None:
    file = tmp_path / "state" / "history"
    type_in(session, model, "一\x1b\r二\r/quit\r", file)
    session.turns.clear()
    assert type_in(session, model, "\x1b[A\x1b[A\x1b[A\r/quit\r", file)[0] == "一\n二"
    assert file.stat().st_mode & 0o077 == 0


def test_the_terminal_never_gets_control_characters_and_keeps_wide_ones_whole() -> None:
    written = io.StringIO()
    output = Vt100_Output(written, lambda: Size(rows=24, columns=10), term="xterm")
    with create_app_session(output=output):
        for text in ("你好\x1b]0;evil\x07", "👋\r。\n"):
            TerminalScreen().show(text)
    assert re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue()) == "你好]0;evil👋。\r\n"
    assert printable("a\tb\n\x9b\x00") == "a\tb\n"


def test_piped_lines_are_answered_on_stdout_and_all_else_goes_to_stderr(
    session: Session, model: ReplayChat, capsys: pytest.CaptureFixture[str]
) -> None:
    chat_on_lines(session, model, Sampling(), lines=["你好\r\n", "\n", "一\\\n", "二\n", "/hlep\n", "天气\\"])
    out, err = capsys.readouterr()
    assert out == f"{ANSWERS['你好']}\n两行\n我不知道。\n"
    assert "tokens/s" in err and "unknown command /hlep" in err


def test_piped_input_ends_at_quit(session: Session, model: ReplayChat) -> None:
    chat_on_lines(session, model, Sampling(), lines=["/quit\n", "你好\n"])
    assert session.turns == []


def pipe_in(monkeypatch: pytest.MonkeyPatch, data: bytes, folder: Path) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    model = ReplayChat(ANSWERS, name="script")
    run_repl(model, system=None, sampling=Sampling(), history_file=None, save_folder=folder)


def test_without_a_terminal_stdin_is_read_as_utf8(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe_in(monkeypatch, "\ufeff你好\n".encode(), tmp_path)
    assert capsys.readouterr().out == f"{ANSWERS['你好']}\n"


def test_input_of_another_encoding_is_refused_with_its_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)the input is not UTF-8.*stdin:2.*convert it"):
        pipe_in(monkeypatch, b"hi\n" + "你好".encode("gb18030"), tmp_path)


def test_the_status_line_counts_tokens_and_characters(session: Session) -> None:
    screen = Recorder()
    take("问", session, Small(), Sampling(), screen)
    assert re.fullmatch(r"2 tokens, 0\.0 s, [\d,.]+ tokens/s, [\d,.]+ characters/s", screen.notes[0])


def test_tokens_that_were_not_counted_are_not_shown(session: Session) -> None:
    screen = Recorder()
    take("问", session, Small(finish=Piece("", "length")), Sampling(), screen)
    assert re.fullmatch(r"0\.0 s, [\d,.]+ characters/s, cut at the length limit", screen.notes[0])


def test_an_empty_answer_is_said_to_be_empty(session: Session) -> None:
    screen = Recorder()
    take("问", session, ReplayChat({None: ""}, name="script"), Sampling(), screen)
    assert screen.notes == ["the model gave an empty answer; /retry asks again"]


def test_control_c_keeps_what_was_said_and_cancels_the_model(session: Session) -> None:
    model = Small(error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        take("问", session, model, Sampling(), Recorder())
    assert [turn.content for turn in session.turns] == ["问", "答"]
    assert model.is_closed


def test_control_c_in_an_answer_goes_back_to_the_prompt(session: Session) -> None:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        pipe.send_text("问\r/retry\r\x04")
        chat_on_terminal(session, Small(error=KeyboardInterrupt()), Sampling(), history_file=None)
    assert [turn.content for turn in session.turns] == ["问", "答"]


def test_an_error_of_the_model_is_one_note_and_the_session_goes_on(session: Session) -> None:
    screen = Recorder()
    assert take("问", session, Small(error=RunError("broken", fix="mend it")), Sampling(), screen)
    assert screen.notes == ["broken\n  fix:   mend it"]
    assert take("再问", session, Small(), Sampling(), screen)


def test_the_oldest_turns_go_when_a_conversation_is_too_long(session: Session) -> None:
    session.system = "短"
    screen = Recorder()
    for text in ("一一", "二二", "三三"):
        take(text, session, Small(room=7), Sampling(), screen)
    assert [message.content for message in session.messages] == ["短", "二二", "答案", "三三", "答案"]
    assert sum("its oldest turn is dropped" in note for note in screen.notes) == 1


def test_a_question_too_long_by_itself_loses_nothing(session: Session) -> None:
    screen = Recorder()
    take("一", session, Small(room=9), Sampling(), screen)
    take("长" * 20, session, Small(room=9), Sampling(), screen)
    assert [turn.content for turn in session.turns] == ["一", "答案", "长" * 20]
    assert screen.notes[-1] == "too long"


def test_a_full_context_makes_room_for_a_retry(session: Session) -> None:
    screen = Recorder()
    take("一", session, Small(), Sampling(), screen)
    take("二", session, Small(finish=Piece("", "length", Usage(1000, 3))), Sampling(max_tokens=512), screen)
    assert [turn.content for turn in session.turns] == ["二", "答案"]
    assert "the context is full" in screen.notes[-1]


def run(session: Session, *lines: str) -> Recorder:
    screen = Recorder()
    for line in lines:
        take(line, session, ReplayChat(ANSWERS, name="script"), Sampling(), screen)
    return screen


def test_clear_forgets_the_turns_and_keeps_the_system_message(session: Session) -> None:
    assert run(session, "你好", "/clear").notes[-1] == "cleared"
    assert run(session, "/system 说中文", "你好", "/clear").notes[-1] == "cleared; the system message stays"
    assert session.messages == [Message("system", "说中文")]


def test_system_sets_shows_and_removes_the_system_message(session: Session) -> None:
    notes = run(session, "/system", "/system 第一行\n第二行", "/system", "/system -").notes
    shown = "system message: 第一行\n第二行"
    assert notes == ["no system message", shown, shown, "no system message"]


def test_retry_answers_the_same_question_again(session: Session) -> None:
    assert run(session, "/retry").notes == ["nothing to retry yet"]
    assert run(session, "你好", "/retry").text == f"{ANSWERS['你好']}\n" * 2
    assert len(session.turns) == 2


def test_save_says_where_or_why_not(session: Session, tmp_path: Path) -> None:
    assert run(session, "/save").notes == ["nothing to save: no question has been answered yet"]
    assert run(session, "你好", "/save 名字.jsonl").notes[-1] == f"saved to {tmp_path / 'saved' / '名字.jsonl'}"
    assert len(json.loads((tmp_path / "saved" / "名字.jsonl").read_text(encoding="utf-8"))["messages"]) == 2


def test_help_names_every_command(session: Session) -> None:
    text = run(session, "/help").notes[0]
    assert all(f"/{name}" in text for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize(
    ("line", "hint"), [("/quti", "did you mean /quit?"), ("/xyz", "/help lists them."), ("/", "/help")]
)
def test_an_unknown_command_gets_a_hint_and_asks_nothing(session: Session, line: str, hint: str) -> None:
    screen = run(session, line)
    assert hint in screen.notes[0] and session.turns == []


def test_a_leading_space_sends_a_slash_as_text(session: Session) -> None:
    run(session, " /etc 是什么")
    assert session.turns[0].content == "/etc 是什么"


def test_space_before_an_answer_is_not_shown(session: Session) -> None:
    screen = Recorder()
    session.ask("问")
    answer(session, ReplayChat({None: "\n\n   \n\n答"}, name="script"), Sampling(), screen)
    assert screen.text == "答\n"
