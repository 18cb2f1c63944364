import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from baihua.backends.replay import ReplayChat
from baihua.chat.types import ChatModel, Message, Piece, Sampling, Span, Usage
from baihua.core.errors import InputError, RunError, TooLongError
from baihua.serve.terminal.commands import COMMANDS, take
from baihua.serve.terminal.markdown import printable
from baihua.serve.terminal.repl import CommandCompleter, chat_on_lines, chat_on_terminal, run_repl
from baihua.serve.terminal.screen import PlainScreen
from baihua.serve.terminal.session import Chat, Session, answer

ANSWERS = {"你好": "你好！很高兴认识你👋。", "一\n二": "两行", None: "我不知道。"}


class Recorder(PlainScreen):
    """A screen that remembers."""

    def __init__(self) -> None:
        self.text = ""
        self.notes: list[str] = []
        self.spans: list[Span] = []
        self.num_waits = 0
        self.is_markdown = True

    def wait(self) -> None:
        self.num_waits += 1

    def show(self, text: str) -> None:
        self.text += text

    def finish(self) -> None:
        self.text += "\n"

    def show_prompt(self, spans: Sequence[Span]) -> None:
        self.spans = [*spans]

    def use_markdown(self, is_on: bool) -> None:
        self.is_markdown = is_on

    def note(self, text: str) -> None:
        self.notes.append(text)


class Small:
    """A model with room for a number of characters, which may fail after its first piece."""

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


class Counting(Small):
    """The same, where each character is a token that is counted beforehand."""

    def __init__(self, *, num_ctx: int) -> None:
        super().__init__(room=num_ctx)
        self.num_ctx = num_ctx
        self.num_counts = 0
        self.asked: list[str] = []

    def prompt(self, messages: Sequence[Message]) -> list[Span]:
        return [span for m in messages for span in (Span(f"<{m.role}>", is_control=True), Span(m.content))]

    def count_tokens(self, messages: Sequence[Message]) -> int:
        self.num_counts += 1
        return sum(len(message.content) for message in messages)

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        self.asked = [message.content for message in messages]
        return super().stream(messages, sampling)


@pytest.fixture
def chat(tmp_path: Path) -> Chat:
    return chat_with(ReplayChat(ANSWERS, name="script"), tmp_path / "saved")


def chat_with(model: ChatModel, folder: Path = Path("saved"), *, sampling: Sampling = Sampling()) -> Chat:  # noqa: B008
    return Chat(Session(sampling=sampling), model, Recorder(), folder)


def screen_of(chat: Chat) -> Recorder:
    assert isinstance(chat.screen, Recorder)
    return chat.screen


def texts(chat: Chat) -> list[str]:
    return [turn.content for turn in chat.session.turns]


def type_in(chat: Chat, keys: str, history_file: Path | None = None) -> list[str]:
    """Type at the terminal chat; returns what was asked and answered."""
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        pipe.send_text(keys)
        chat_on_terminal(chat, history_file=history_file or chat.folder / "history")
    return texts(chat)


def test_what_is_typed_is_answered(chat: Chat) -> None:
    assert type_in(chat, "你好\r/quit\r") == ["你好", ANSWERS["你好"]]


@pytest.mark.parametrize(
    "keys", ["一\x1b\r二\r", "一\\\r二\r", "\x1b[200~一\n二\x1b[201~\r"], ids=["alt", "backslash", "paste"]
)
def test_a_question_may_have_many_lines(chat: Chat, keys: str) -> None:
    assert type_in(chat, keys + "/quit\r") == ["一\n二", "两行"]


def test_control_c_at_the_prompt_clears_the_line_and_control_d_leaves(chat: Chat) -> None:
    assert type_in(chat, "没完\x03你好\r\x04") == ["你好", ANSWERS["你好"]]


def test_an_empty_line_asks_nothing(chat: Chat) -> None:
    assert type_in(chat, "\r  \r/quit\r") == []


def test_what_was_asked_is_remembered_and_private(chat: Chat, tmp_path: Path) -> None:
    file = tmp_path / "state" / "history"
    type_in(chat, "一\x1b\r二\r/quit\r", file)
    chat.session.clear()
    assert type_in(chat, "\x1b[A\x1b[A\x1b[A\r/quit\r", file)[0] == "一\n二"
    assert file.stat().st_mode & 0o077 == 0


def test_piped_lines_are_answered_on_one_stream_and_all_else_goes_to_the_other(chat: Chat) -> None:
    out, err = io.StringIO(), io.StringIO()
    piped = replace(chat, screen=PlainScreen(out, err))
    chat_on_lines(piped, lines=["你好\r\n", "\n", "一\\\n", "二\n", "/hlep\n", "天气\\"])
    assert out.getvalue() == f"{ANSWERS['你好']}\n两行\n我不知道。\n"
    assert "tokens/s" in err.getvalue() and "unknown command /hlep" in err.getvalue()


def test_piped_input_ends_at_quit(chat: Chat) -> None:
    chat_on_lines(chat, lines=["/quit\n", "你好\n"])
    assert texts(chat) == []


def pipe_in(monkeypatch: pytest.MonkeyPatch, data: bytes, folder: Path) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    model = ReplayChat(ANSWERS, name="script")
    run_repl(
        model, system=None, sampling=Sampling(), history_file=folder / "history", save_folder=folder, is_plain=False
    )


def test_without_a_terminal_stdin_is_read_as_utf8(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe_in(monkeypatch, "\ufeff你好\n".encode(), tmp_path)
    assert capsys.readouterr().out == f"{ANSWERS['你好']}\n"


def test_input_of_another_encoding_is_refused_with_its_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)the input is not UTF-8.*stdin:2.*convert it"):
        pipe_in(monkeypatch, b"hi\n" + "你好".encode("gb18030"), tmp_path)


def test_the_status_line_counts_tokens_and_characters() -> None:
    chat = chat_with(Small())
    take("问", chat)
    assert re.fullmatch(r"2 tokens, 0\.0 s, [\d,.]+ tokens/s, [\d,.]+ characters/s", screen_of(chat).notes[0])


def test_tokens_that_were_not_counted_are_not_shown() -> None:
    chat = chat_with(Small(finish=Piece("", "length")))
    take("问", chat)
    assert re.fullmatch(r"0\.0 s, [\d,.]+ characters/s, cut at the length limit", screen_of(chat).notes[0])


def test_an_empty_answer_is_said_to_be_empty() -> None:
    chat = chat_with(ReplayChat({None: ""}, name="script"))
    take("问", chat)
    assert screen_of(chat).notes == ["the answer is empty; /retry asks again"]


def test_control_c_keeps_what_was_said_and_cancels_the_model() -> None:
    model = Small(error=KeyboardInterrupt())
    chat = chat_with(model)
    with pytest.raises(KeyboardInterrupt):
        take("问", chat)
    assert texts(chat) == ["问", "答"]
    assert model.is_closed


def test_control_c_in_an_answer_goes_back_to_the_prompt() -> None:
    chat = chat_with(Small(error=KeyboardInterrupt()))
    assert type_in(chat, "问\r/retry\r\x04") == ["问", "答"]
    assert screen_of(chat).notes[-1] == "stopped"


def test_an_error_of_the_model_is_one_note_and_the_session_goes_on() -> None:
    chat = chat_with(Small(error=RunError("broken", fix="repair it")))
    assert take("问", chat)
    assert screen_of(chat).notes == ["broken\n  fix:   repair it"]
    assert take("再问", replace(chat, model=Small()))


def test_space_before_an_answer_is_not_shown() -> None:
    chat = chat_with(ReplayChat({None: "\n\n   \n\n答"}, name="script"))
    chat.session.ask("问")
    answer(chat)
    assert screen_of(chat).text == "答\n"
    assert screen_of(chat).num_waits == 1


def test_what_is_too_long_is_not_sent_and_not_forgotten() -> None:
    chat = chat_with(Small(room=7))
    chat.session.system = "短"
    for text in ("一一", "二二", "三三"):
        take(text, chat)
    assert texts(chat) == ["一一", "答案", "二二", "答案", "三三", "答案"]
    found = [note for note in screen_of(chat).notes if "too long" in note]
    assert found == ["too long for the model; the oldest question and its answer are not sent"]


def test_a_question_too_long_by_itself_loses_nothing() -> None:
    chat = chat_with(Small(room=9))
    take("一", chat)
    take("长" * 20, chat)
    assert texts(chat) == ["一", "答案", "长" * 20]
    assert screen_of(chat).notes[-1] == "too long"
    assert chat.session.num_left_out == 0


def test_a_full_context_makes_room_for_a_retry() -> None:
    chat = chat_with(Small(finish=Piece("", "length", Usage(1000, 3))))
    for text in ("一", "二"):
        take(text, chat)
    assert (
        "the context is full; the oldest question and its answer are not sent from now on" in screen_of(chat).notes[-1]
    )
    assert [message.content for message in chat.session.sent()] == ["二", "答案"]


def test_where_tokens_are_counted_turns_are_left_out_before_the_model_is_asked() -> None:
    model = Counting(num_ctx=40)
    chat = chat_with(model, sampling=Sampling(max_tokens=10))
    chat.session.system = "系统"
    for number in range(12):
        take(f"问题{number:02}", chat)
        assert len("".join(model.asked)) + 10 <= 40
        assert model.asked[0] == "系统"
    assert len(texts(chat)) == 24
    found = [note for note in screen_of(chat).notes if "no longer fit the context (40 tokens)" in note]
    assert 1 < len(found) < 8, "some more than needed are left out, so that the prompt begins the same for a while"


def test_leaving_out_does_not_count_the_conversation_for_every_turn() -> None:
    model = Counting(num_ctx=1000)
    chat = chat_with(model, sampling=Sampling(max_tokens=10))
    for _ in range(300):
        chat.session.ask("问题")
        chat.session.answer("答案")
    take("最后", chat)
    assert chat.session.num_left_out > 50
    assert model.num_counts < 15


def test_an_answer_longer_than_half_the_context_leaves_the_other_half_for_the_conversation() -> None:
    model = Counting(num_ctx=40)
    chat = chat_with(model, sampling=Sampling(max_tokens=1000))
    for text in ("一" * 10, "二" * 10):
        take(text, chat)
    assert model.asked[-1] == "二" * 10 and "一" * 10 not in model.asked


def run(chat: Chat, *lines: str) -> list[str]:
    for line in lines:
        take(line, chat)
    return screen_of(chat).notes


def test_clear_forgets_the_turns_and_keeps_the_system_message(chat: Chat) -> None:
    assert run(chat, "你好", "/clear")[-1] == "cleared"
    assert run(chat, "/system 说中文", "你好", "/clear")[-1] == "cleared; the system message stays"
    assert chat.session.sent(0) == [Message("system", "说中文")]


def test_system_sets_shows_and_removes_the_system_message(chat: Chat) -> None:
    shown = "system message: 第一行\n第二行"
    notes = run(chat, "/system", "/system 第一行\n第二行", "/system", "/system -")
    assert notes == ["no system message", shown, shown, "no system message"]


def test_retry_answers_the_same_question_again(chat: Chat) -> None:
    assert run(chat, "/retry") == ["nothing to retry yet"]
    run(chat, "你好", "/retry")
    assert screen_of(chat).text == f"{ANSWERS['你好']}\n" * 2
    assert len(texts(chat)) == 2


def test_a_retry_that_gives_nothing_brings_the_answer_back(chat: Chat) -> None:
    run(chat, "你好")
    run(replace(chat, model=Small(room=0)), "/retry")
    assert texts(chat) == ["你好", ANSWERS["你好"]]


def test_temperature_is_set_shown_and_checked(chat: Chat) -> None:
    notes = run(chat, "/temperature", "/temperature 0.25", "/temperature 3", "/temperature 热", "/temperature nan")
    assert notes[:2] == ["temperature: 0.7", "temperature: 0.25"]
    assert all("expects a number from 0" in note for note in notes[2:])
    assert chat.session.sampling.temperature == 0.25


def test_edit_brings_the_question_back_and_replaces_it(chat: Chat) -> None:
    assert run(chat, "/edit") == ["nothing to edit yet"]
    assert type_in(chat, "你\r/edit\r好\r/quit\r") == ["你好", ANSWERS["你好"]]


@pytest.mark.parametrize("keys", ["\x7f\r", "\x03", "\x15/tokens\r"], ids=["empty line", "control c", "a command"])
def test_an_edit_can_be_left(chat: Chat, keys: str) -> None:
    assert type_in(chat, f"你\r/edit\r{keys}好\r/quit\r")[:3] == ["你", ANSWERS[None], "好"]


def test_tokens_tell_what_is_known(chat: Chat) -> None:
    assert "unknown" in run(chat, "/tokens")[-1]
    known = chat_with(Small())
    assert "3 tokens read, 2 written" in run(known, "问", "/tokens")[-1]
    counted = chat_with(Counting(num_ctx=40))
    assert run(counted, "/tokens")[-1] == "nothing asked yet; the context holds 40 tokens"
    assert run(counted, "问题", "/tokens")[-1] == "4 of 40 tokens are used, 36 are free (90%)"


def test_prompt_shows_what_the_model_read(chat: Chat) -> None:
    assert "the prompt is unknown" in run(chat, "/prompt")[-1]
    counted = chat_with(Counting(num_ctx=40))
    assert run(counted, "/prompt")[-1] == "nothing asked yet"
    assert run(counted, "问题", "/prompt")[-1] == "2 tokens"
    assert screen_of(counted).spans == [Span("<user>", is_control=True), Span("问题")]
    out = io.StringIO()
    run_plain = replace(counted, screen=PlainScreen(out, io.StringIO()))
    take("/prompt", run_plain)
    assert out.getvalue() == "[[<user>]]问题\n"


def test_markdown_is_for_terminals(chat: Chat) -> None:
    assert "expects on or off" in run(chat, "/markdown")[-1]
    run(chat, "/markdown off")
    assert not screen_of(chat).is_markdown
    notes = io.StringIO()
    take("/markdown on", replace(chat, screen=PlainScreen(io.StringIO(), notes)))
    assert "rendered in a terminal only" in notes.getvalue()


def test_save_says_where_or_why_not(chat: Chat, tmp_path: Path) -> None:
    assert run(chat, "/save") == ["nothing to save: no answers yet"]
    assert run(chat, "你好", "/save 名字.jsonl")[-1] == f"saved to {tmp_path / 'saved' / '名字.jsonl'}"
    assert len(json.loads((tmp_path / "saved" / "名字.jsonl").read_text(encoding="utf-8"))["messages"]) == 2


def test_load_goes_on_where_save_stopped(chat: Chat) -> None:
    run(chat, "/system 说中文", "你好", "/save a.jsonl", "/clear", "/system -")
    assert run(chat, "/load a.jsonl")[-1] == "loaded 2 messages, with a system message"
    assert chat.session.sent(0)[0] == Message("system", "说中文")
    assert texts(chat) == ["你好", ANSWERS["你好"]]
    assert "expects a file" in run(chat, "/load")[-1]
    assert "cannot read the file" in run(chat, "/load b.jsonl")[-1]


def test_help_names_every_command(chat: Chat) -> None:
    text = run(chat, "/help")[0]
    assert all(f"/{name}" in text for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("/quti", "did you mean /quit?"), ("/temp 1", "did you mean /temperature?"), ("/xyz", "/help lists them."),
        ("/", "/help"), ("/clear all", "/clear takes no argument, found 'all'"),
    ],
)  # fmt: skip
def test_an_unknown_command_gets_a_hint_and_asks_nothing(chat: Chat, line: str, hint: str) -> None:
    assert hint in run(chat, line)[0] and texts(chat) == []


def test_a_leading_space_sends_a_slash_as_text(chat: Chat) -> None:
    run(chat, " /etc 是什么")
    assert texts(chat)[0] == "/etc 是什么"


def test_tab_completes_commands_and_files(tmp_path: Path) -> None:
    (tmp_path / "对话.jsonl").write_text("", encoding="utf-8")

    def completed(text: str) -> list[str]:
        found = CommandCompleter(tmp_path).get_completions(Document(text), CompleteEvent(completion_requested=True))
        return [text[: len(text) + one.start_position] + one.text for one in found]

    assert completed("/te") == ["/temperature"]
    assert completed("/load 对") == ["/load 对话.jsonl"]
    assert completed("你好") == completed("/system /t") == []


def test_text_that_would_steer_the_terminal_is_taken_out() -> None:
    assert printable("a\tb\n\x9b\x00\ud83d好") == "a\tb\n好"
