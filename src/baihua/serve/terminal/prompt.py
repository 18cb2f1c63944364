"""Where a person types: keys, history and completion."""

from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from baihua.serve.terminal.answering import Chat
from baihua.serve.terminal.commands import COMMANDS, take

# Plain ASCII: the width of prettier marks such as an arrow or an ellipsis is ambiguous in Chinese fonts.
PROMPT = "> "
CONTINUATION = "  "
NAMES_FILES = ("/load ", "/save ")


def chat_on_terminal(chat: Chat, *, history_file: Path | None) -> None:
    """Prompt and answer until /quit or Ctrl-D; Ctrl-C stops an answer, and at the prompt says how to leave."""
    session, screen = chat.session, chat.screen
    screen.note(f"{chat.model.name}: /help lists the commands, /quit leaves")
    prompt: PromptSession[str] = PromptSession(
        history=_open_history(history_file),
        key_bindings=_bindings(),
        completer=CommandCompleter(chat.folder),
        complete_while_typing=False,
        multiline=True,
        prompt_continuation=CONTINUATION,
    )
    is_open = True
    while is_open:
        try:
            text = prompt.prompt(PROMPT, default=(session.question or "") if session.is_editing else "")
        except KeyboardInterrupt:
            session.is_editing = False
            screen.note("to leave: /quit or Ctrl-D")
            continue
        except EOFError:
            return
        try:
            is_open = take(text, chat)
        except KeyboardInterrupt:
            # The terminal has written ^C; an answer that had begun has ended its line since.
            is_begun = bool(session.turns) and session.turns[-1].role == "assistant"
            screen.note("stopped" if is_begun else "\nstopped")


class CommandCompleter(Completer):
    """Completes commands, and the names of files after those that take one."""

    def __init__(self, folder: Path) -> None:
        self._files = PathCompleter(get_paths=lambda: [str(folder)], expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What may follow the text before the cursor."""
        text = document.text_before_cursor
        if text.startswith(NAMES_FILES):
            name = text.partition(" ")[2]
            yield from self._files.get_completions(Document(name, len(name)), complete_event)
        elif text.startswith("/") and not any(char.isspace() for char in text):
            found = (name for name in COMMANDS if name.startswith(text[1:]))
            yield from (Completion(f"/{name}", -len(text), display_meta=COMMANDS[name].help) for name in found)


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
