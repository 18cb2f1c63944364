"""The prompt_toolkit front of the terminal chat: keys, history and colours."""

from pathlib import Path

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from baihua.chat.types import ChatModel, Sampling
from baihua.serve.answering import printable
from baihua.serve.commands import take
from baihua.serve.session import Session

# Plain ASCII: the width of prettier marks such as an arrow or an ellipsis is ambiguous in Chinese fonts.
PROMPT = "> "
CONTINUATION = "  "


def chat_on_terminal(session: Session, model: ChatModel, sampling: Sampling, *, history_file: Path | None) -> None:
    """Prompt and answer until /quit or Ctrl-D; Ctrl-C stops an answer, and at the prompt says how to leave."""
    screen = TerminalScreen()
    screen.note(f"{model.name}: /help lists the commands, /quit leaves")
    prompt: PromptSession[str] = PromptSession(
        history=_open_history(history_file), key_bindings=_bindings(), multiline=True, prompt_continuation=CONTINUATION
    )
    is_open = True
    while is_open:
        try:
            text = prompt.prompt(PROMPT)
        except KeyboardInterrupt:
            screen.note("to leave: /quit or Ctrl-D")
            continue
        except EOFError:
            return
        try:
            is_open = take(text, session, model, sampling, screen)
        except KeyboardInterrupt:
            # The terminal has written ^C; an answer that had begun has ended its line since.
            is_begun = bool(session.turns) and session.turns[-1].role == "assistant"
            screen.note("stopped" if is_begun else "\nstopped")


class TerminalScreen:
    """Answers plain, notes dim; the terminal wraps lines itself, so wide characters stay whole."""

    def show(self, text: str) -> None:
        """Write a part of an answer and flush it."""
        if text:
            print_formatted_text(FormattedText([("", printable(text))]), end="", flush=True)

    def note(self, text: str) -> None:
        """Write a note in a dim colour."""
        print_formatted_text(FormattedText([("fg:ansibrightblack", printable(text))]), flush=True)


def _open_history(file: Path | None) -> History:
    if file is None:
        return InMemoryHistory()
    file.parent.mkdir(parents=True, exist_ok=True)
    # What people ask is private: nobody else on this machine may read it.
    file.touch(mode=0o600)
    return FileHistory(str(file))


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def send_or_continue(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def insert_newline(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings
