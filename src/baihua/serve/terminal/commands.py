"""What a person types: a question, or a command that starts with a slash."""

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from baihua.chat.types import LocalChat
from baihua.core.errors import BaihuaError, InputError
from baihua.serve.terminal.answering import Chat, answer
from baihua.serve.terminal.saved import load, save
from baihua.serve.terminal.session import Session

LINE = re.compile(r"/(?P<name>\S*)\s*(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to tell the person, and what happens next."""

    note: str = ""
    next: Literal["wait", "answer", "quit"] = "wait"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its argument as help shows it, one line of help, and what it does."""

    argument: str
    help: str
    run: Callable[[Chat, str], Outcome]


def take(text: str, chat: Chat) -> bool:
    """Answer one input or run it as a command; false when it says to leave."""
    if text.strip() and not text.startswith("/"):
        chat.session.ask(text)
        answer(chat)
        return True
    chat.session.is_editing = False
    outcome = _run(text, chat) if text.strip() else Outcome()
    if outcome.note:
        chat.screen.note(outcome.note)
    if outcome.next == "answer":
        answer(chat)
    return outcome.next != "quit"


def _run(text: str, chat: Chat) -> Outcome:
    match = LINE.match(text)
    assert match, "a command starts with a slash"
    name, rest = match["name"], match["rest"].strip()
    if name not in COMMANDS:
        longer = [command for command in COMMANDS if name and command.startswith(name)]
        near = longer or difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean /{near[0]}?" if near else "/help lists them."
        return Outcome(f"unknown command /{name}; {hint} To send it as a message, start with a space.")
    command = COMMANDS[name]
    if rest and not command.argument:
        return Outcome(f"/{name} takes nothing after it, found {rest!r}")
    try:
        return command.run(chat, rest)
    except BaihuaError as error:
        return Outcome(str(error))


def _clear(chat: Chat, argument: str) -> Outcome:
    chat.session.clear()
    return Outcome("cleared; the system message stays" if chat.session.system else "cleared")


def _system(chat: Chat, argument: str) -> Outcome:
    session = chat.session
    if argument:
        session.set_system(None if argument == "-" else argument)
    return Outcome(f"system message: {session.system}" if session.system else "no system message")


def _temperature(chat: Chat, argument: str) -> Outcome:
    sampling = chat.session.sampling
    if not argument:
        return Outcome(f"temperature: {sampling.temperature:g}")
    value = _number(argument)
    if value is None or not 0 <= value <= 2:
        return Outcome(f"/temperature expects a number from 0 (always the likeliest token) to 2, found {argument!r}")
    chat.session.sampling = replace(sampling, temperature=value)
    return Outcome(f"temperature: {value:g}")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _retry(chat: Chat, argument: str) -> Outcome:
    return Outcome(next="answer") if chat.session.reopen() else Outcome("nothing to retry yet")


def _edit(chat: Chat, argument: str) -> Outcome:
    if chat.session.question is None:
        return Outcome("nothing to edit yet")
    chat.session.is_editing = True
    return Outcome("what you send now takes the place of the last question; an empty line leaves it as it is")


def _save(chat: Chat, argument: str) -> Outcome:
    messages = chat.session.answered()
    if not messages:
        raise InputError("nothing to save: no question has been answered yet")
    return Outcome(f"saved to {save(messages, chat.folder, argument)}")


def _load(chat: Chat, argument: str) -> Outcome:
    if not argument:
        return Outcome(
            "/load expects a file that /save wrote, or FILE:LINE for a row of messages in any JSON Lines file"
        )
    chat.session.replace(load(chat.folder, argument))
    return Outcome(_summary(chat.session))


def _summary(session: Session) -> str:
    found = f"loaded {len(session.turns):,} messages"
    found += ", with a system message" if session.system else ", no system message"
    if session.turns and session.turns[-1].role == "user":
        found += "; the last question is open: /retry asks it"
    return found


def _tokens(chat: Chat, argument: str) -> Outcome:
    session, model = chat.session, chat.model
    if not isinstance(model, LocalChat):
        if session.usage is None:
            return Outcome(
                "not known: this model cannot count before it answers, and no answer has told its tokens yet"
            )
        read, written = session.usage.num_prompt_tokens, session.usage.num_answer_tokens
        return Outcome(f"the last answer: {read:,} tokens read, {written:,} written; the model's context is not known")
    if not session.turns:
        return Outcome(f"nothing asked yet; the context holds {model.num_ctx:,} tokens")
    used = model.count_tokens(session.sent())
    free = max(0, model.num_ctx - used)
    left_out = f"; the oldest {session.num_left_out:,} questions are left out" if session.num_left_out else ""
    return Outcome(
        f"{used:,} tokens of {model.num_ctx:,} are used, {free:,} are free ({free / model.num_ctx:.0%}){left_out}"
    )


def _prompt(chat: Chat, argument: str) -> Outcome:
    session, model = chat.session, chat.model
    if not isinstance(model, LocalChat):
        return Outcome("the prompt of this model is not known here: whoever runs it renders it")
    messages = session.sent()
    while messages and messages[-1].role == "assistant":
        messages.pop()
    if session.question is None:
        return Outcome("nothing asked yet")
    chat.screen.reveal(model.prompt(messages))
    return Outcome(f"{model.count_tokens(messages):,} tokens")


def _markdown(chat: Chat, argument: str) -> Outcome:
    if argument not in ("on", "off"):
        return Outcome(f"/markdown expects on or off, found {argument or 'nothing'!r}")
    chat.screen.use_markdown(argument == "on")
    return Outcome("answers are rendered as Markdown" if argument == "on" else "answers are shown as they come")


def _help(chat: Chat, argument: str) -> Outcome:
    shown = [(f"/{name} {command.argument}".rstrip(), command.help) for name, command in COMMANDS.items()]
    return Outcome("\n".join(f"{usage:<17}{text}" for usage, text in [*shown, *KEYS]))


def _quit(chat: Chat, argument: str) -> Outcome:
    return Outcome(next="quit")


COMMANDS = {
    "retry": Command("", "answer the last question again", _retry),
    "edit": Command("", "change the last question", _edit),
    "system": Command("[TEXT]", "set or show the system message (- for none)", _system),
    "temperature": Command("[N]", "set or show it; 0 is greedy", _temperature),
    "tokens": Command("", "how full the context is", _tokens),
    "prompt": Command("", "what the model read for the last question", _prompt),
    "save": Command("[FILE]", "save as JSON Lines, never over a file", _save),
    "load": Command("FILE", "go on with a saved conversation", _load),
    "markdown": Command("on|off", "render answers, or show them as they are", _markdown),
    "clear": Command("", "start again with the same system message", _clear),
    "help": Command("", "this list", _help),
    "quit": Command("", "leave (also Ctrl-D)", _quit),
}

KEYS = (
    ("Alt-Enter", "new line (also Esc Enter, or \\ then Enter)"),
    ("Ctrl-C", "stop the answer; what was said is kept"),
    ("Tab", "complete a command or the name of a file"),
)
