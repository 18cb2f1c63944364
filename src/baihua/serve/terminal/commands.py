"""What the user types: a question, or a command that starts with a slash.

A conversation is saved as one row of JSON Lines with its messages, the format that training reads.
"""

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from baihua.chat.types import LocalChat, Message
from baihua.core.errors import BaihuaError, InputError
from baihua.core.files import read_jsonl, write_jsonl
from baihua.data.formats.messages import read_messages
from baihua.serve.terminal.session import Chat, answer

COMMAND_LINE = re.compile(r"/(\S*)\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its argument as the help shows it, its help text, and its function.

    The function returns the note to show; None leaves the chat.
    """

    argument: str
    help: str
    run: Callable[[Chat, str], str | None]


def take(text: str, chat: Chat) -> bool:
    """Answer one input or run it as a command; false to leave the chat."""
    if text.strip() and not text.startswith("/"):
        chat.session.ask(text)
        answer(chat)
        return True
    chat.session.is_editing = False
    note = _run(text, chat) if text.strip() else ""
    if note:
        chat.screen.note(note)
    return note is not None


def _run(text: str, chat: Chat) -> str | None:
    [(name, argument)] = COMMAND_LINE.findall(text.rstrip())
    if name not in COMMANDS:
        longer = [command for command in COMMANDS if name and command.startswith(name)]
        near = longer or difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean /{near[0]}?" if near else "/help lists them."
        return f"unknown command /{name}; {hint} To send it as a message, start with a space."
    command = COMMANDS[name]
    if argument and not command.argument:
        return f"/{name} takes no argument, found {argument!r}"
    try:
        return command.run(chat, argument)
    except BaihuaError as error:
        return str(error)


def _clear(chat: Chat, argument: str) -> str:
    chat.session.clear()
    return "cleared; the system message stays" if chat.session.system else "cleared"


def _system(chat: Chat, argument: str) -> str:
    session = chat.session
    if argument:
        session.set_system(None if argument == "-" else argument)
    return f"system message: {session.system}" if session.system else "no system message"


def _temperature(chat: Chat, argument: str) -> str:
    session = chat.session
    if argument:
        try:
            value = float(argument)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 2:
            return f"/temperature expects a number from 0 (greedy) to 2, found {argument!r}"
        session.sampling = replace(session.sampling, temperature=value)
    return f"temperature: {session.sampling.temperature:g}"


def _retry(chat: Chat, argument: str) -> str:
    if not chat.session.reopen():
        return "nothing to retry yet"
    answer(chat)
    return ""


def _edit(chat: Chat, argument: str) -> str:
    if chat.session.question is None:
        return "nothing to edit yet"
    chat.session.is_editing = True
    return "your next message replaces the last question; an empty line keeps it"


def _save(chat: Chat, argument: str) -> str:
    messages = chat.session.answered()
    return f"saved to {save(messages, chat.folder, argument)}" if messages else "nothing to save: no answers yet"


def _load(chat: Chat, argument: str) -> str:
    if not argument:
        return "/load expects a file that /save wrote, or FILE:LINE for a row of messages in a JSON Lines file"
    session = chat.session
    session.replace(load(chat.folder, argument))
    found = f"loaded {len(session.turns):,} messages, {'with a' if session.system else 'no'} system message"
    is_open = session.turns and session.turns[-1].role == "user"
    return f"{found}; the last question has no answer: /retry asks it" if is_open else found


def _tokens(chat: Chat, argument: str) -> str:
    session, model = chat.session, chat.model
    if not isinstance(model, LocalChat):
        if session.usage is None:
            return "unknown: this model does not count tokens before it answers, and has reported none yet"
        read, written = session.usage.num_prompt_tokens, session.usage.num_answer_tokens
        return f"last answer: {read:,} tokens read, {written:,} written; the model's context length is unknown"
    if not session.turns:
        return f"nothing asked yet; the context holds {model.num_ctx:,} tokens"
    used = model.count_tokens(session.sent())
    free = max(0, model.num_ctx - used)
    left_out = f"; the oldest {session.num_left_out:,} questions are left out" if session.num_left_out else ""
    return f"{used:,} of {model.num_ctx:,} tokens are used, {free:,} are free ({free / model.num_ctx:.0%}){left_out}"


def _prompt(chat: Chat, argument: str) -> str:
    session, model = chat.session, chat.model
    if not isinstance(model, LocalChat):
        return "the prompt is unknown: the server of this model renders it"
    if session.question is None:
        return "nothing asked yet"
    messages = session.sent()
    while messages[-1].role == "assistant":
        messages.pop()
    chat.screen.show_prompt(model.prompt(messages))
    return f"{model.count_tokens(messages):,} tokens"


def _markdown(chat: Chat, argument: str) -> str:
    if argument not in ("on", "off"):
        return f"/markdown expects on or off, found {argument or 'nothing'!r}"
    chat.screen.use_markdown(argument == "on")
    return "answers are rendered as Markdown" if argument == "on" else "answers are shown unrendered"


def _help(chat: Chat, argument: str) -> str:
    shown = [(f"/{name} {command.argument}".rstrip(), command.help) for name, command in COMMANDS.items()]
    return "\n".join(f"{usage:<17}{text}" for usage, text in [*shown, *KEYS])


COMMANDS = {
    "retry": Command("", "answer the last question again", _retry),
    "edit": Command("", "change the last question", _edit),
    "system": Command("[TEXT]", "set or show the system message (- for none)", _system),
    "temperature": Command("[N]", "set or show it; 0 is greedy", _temperature),
    "tokens": Command("", "how full the context is", _tokens),
    "prompt": Command("", "what the model read for the last question", _prompt),
    "save": Command("[FILE]", "save as JSON Lines; never overwrites", _save),
    "load": Command("FILE", "continue a saved conversation", _load),
    "markdown": Command("on|off", "render answers, or show them unrendered", _markdown),
    "clear": Command("", "start over with the same system message", _clear),
    "help": Command("", "show this list", _help),
    "quit": Command("", "leave (also Ctrl-D)", lambda chat, argument: None),
}

KEYS = (
    ("Alt-Enter", "new line (also Esc Enter, or \\ then Enter)"),
    ("Ctrl-C", "stop the answer; its text so far is kept"),
    ("Tab", "complete a command or a file name"),
)


def save(messages: Sequence[Message], folder: Path, name: str = "") -> Path:
    """Write a conversation to a new file, and return its path."""
    wanted = folder / Path(name or f"chat-{datetime.now():%Y%m%d-%H%M%S}.jsonl").expanduser()
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        file = _reserve(wanted)
        rows = [{"role": m.role, "content": m.content} | ({"input": m.input} if m.input else {}) for m in messages]
        write_jsonl(file, [{"messages": rows}])
    except OSError as error:
        fix = "choose another file: /save FILE"
        raise InputError(f"cannot save: {error.strerror}", where=str(wanted), fix=fix) from error
    return file


def load(folder: Path, name: str) -> list[Message]:
    """The conversation in the first row of a file, or in the row of a line: FILE:12."""
    file, number = folder / Path(name).expanduser(), None
    if not file.exists() and (match := re.fullmatch(r"(?P<name>.+):(?P<line>[0-9]+)", name)):
        file, number = folder / Path(match["name"]).expanduser(), int(match["line"])
    try:
        found = next(((line, row) for line, row in read_jsonl(file) if number in (None, line)), None)
    except OSError as error:
        fix = "give a file that /save wrote"
        raise InputError(f"cannot read the file: {error.strerror}", where=str(file), fix=fix) from error
    if found is None:
        what = "the file is empty" if number is None else f"line {number:,} of the file has no row"
        raise InputError(what, where=str(file), fix='the format is {"messages": [{"role": "user", "content": "..."}]}')
    line, row = found
    return read_messages(row, where=f"{file}:{line}")


def _reserve(wanted: Path) -> Path:
    """Create `wanted`, or the first of wanted-2, wanted-3, ... that does not exist."""
    file, number = wanted, 1
    while True:
        try:
            # Conversations are private: only this user may read the file.
            file.touch(mode=0o600, exist_ok=False)
            return file
        except FileExistsError:
            number += 1
            file = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
