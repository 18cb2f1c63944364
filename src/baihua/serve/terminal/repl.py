"""The chat loop: in a terminal with history and completion, otherwise one answer per line of input."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from baihua.chat.types import ChatModel, Sampling
from baihua.core.errors import InputError
from baihua.serve.terminal.commands import COMMANDS, take
from baihua.serve.terminal.screen import PlainScreen, TerminalScreen
from baihua.serve.terminal.session import Chat, Session


def run_repl(
    model: ChatModel, *, system: str | None, sampling: Sampling, history_file: Path, save_folder: Path, is_plain: bool
) -> None:
    """Chat until the user leaves; without a terminal, answer each line of stdin."""
    session = Session(system=system, sampling=sampling)
    if sys.stdin.isatty() and sys.stdout.isatty():
        chat = Chat(session, model, TerminalScreen(is_plain=is_plain), save_folder)
        chat_on_terminal(chat, history_file=history_file)
    else:
        chat = Chat(session, model, PlainScreen(sys.stdout, sys.stderr), save_folder)
        chat_on_lines(chat, lines=_decoded(sys.stdin.buffer))


def chat_on_terminal(chat: Chat, *, history_file: Path) -> None:
    """Prompt and answer until /quit or Ctrl-D; Ctrl-C stops an answer, and at the prompt shows how to leave."""
    session, screen = chat.session, chat.screen
    screen.note(f"{chat.model.name}: /help lists the commands, /quit leaves")
    history_file.parent.mkdir(parents=True, exist_ok=True)
    # Questions are private: only this user may read the file.
    history_file.touch(mode=0o600)
    prompt: PromptSession[str] = PromptSession(
        history=FileHistory(str(history_file)),
        key_bindings=_bindings(),
        completer=CommandCompleter(chat.folder),
        complete_while_typing=False,
        multiline=True,
        prompt_continuation="  ",
    )
    is_open = True
    while is_open:
        try:
            # Plain ASCII, because arrows and ellipses have an ambiguous width in Chinese fonts.
            text = prompt.prompt("> ", default=(session.question or "") if session.is_editing else "")
        except KeyboardInterrupt:
            session.is_editing = False
            screen.note("to leave: /quit or Ctrl-D")
            continue
        except EOFError:
            return
        try:
            is_open = take(text, chat)
        except KeyboardInterrupt:
            # The terminal has echoed ^C. An answer with text has ended that line; otherwise it must be ended here.
            has_text = bool(session.turns) and session.turns[-1].role == "assistant"
            screen.note("stopped" if has_text else "\nstopped")


def chat_on_lines(chat: Chat, *, lines: Iterable[str]) -> None:
    """Answer each line; a line that ends with a backslash continues in the next one."""
    text = ""
    for line in lines:
        text += line.rstrip("\r\n")
        if text.endswith("\\"):
            text = text[:-1] + "\n"
        elif take(text, chat):
            text = ""
        else:
            return
    if text:
        take(text, chat)


class CommandCompleter(Completer):
    """Completes commands, and file names after the commands that take one."""

    def __init__(self, folder: Path) -> None:
        self._files = PathCompleter(get_paths=lambda: [str(folder)], expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Completions of the text before the cursor."""
        text = document.text_before_cursor
        if text.startswith(("/load ", "/save ")):
            name = text.partition(" ")[2]
            yield from self._files.get_completions(Document(name, len(name)), complete_event)
        elif text.startswith("/") and not any(char.isspace() for char in text):
            found = (name for name in COMMANDS if name.startswith(text[1:]))
            yield from (Completion(f"/{name}", -len(text), display_meta=COMMANDS[name].help) for name in found)


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


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            what = f"the input is not UTF-8: {error.reason}"
            raise InputError(what, where=f"stdin:{number}", fix="convert it to UTF-8") from error
