"""What a person types: a question, or a command that starts with a slash."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from baihua.chat.types import ChatModel, Sampling
from baihua.core.errors import BaihuaError
from baihua.serve.answering import Screen, answer
from baihua.serve.session import Session


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
    run: Callable[[Session, str], Outcome]


def take(text: str, session: Session, model: ChatModel, sampling: Sampling, screen: Screen) -> bool:
    """Answer one input or run it as a command; false when it says to leave."""
    if not text.strip():
        return True
    if not text.startswith("/"):
        session.ask(text)
        answer(session, model, sampling, screen)
        return True
    outcome = _run(session, text)
    if outcome.note:
        screen.note(outcome.note)
    if outcome.next == "answer":
        answer(session, model, sampling, screen)
    return outcome.next != "quit"


def _run(session: Session, line: str) -> Outcome:
    name, _, rest = line.removeprefix("/").partition(" ")
    name = name.split("\n")[0].strip()
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean /{near[0]}?" if near else "/help lists them."
        return Outcome(f"unknown command /{name}; {hint} To send it as a message, start with a space.")
    try:
        return COMMANDS[name].run(session, rest.strip())
    except BaihuaError as error:
        return Outcome(str(error))


def _clear(session: Session, argument: str) -> Outcome:
    session.turns.clear()
    return Outcome("cleared; the system message stays" if session.system else "cleared")


def _system(session: Session, argument: str) -> Outcome:
    if argument:
        session.system = None if argument == "-" else argument
    return Outcome(f"system message: {session.system}" if session.system else "no system message")


def _retry(session: Session, argument: str) -> Outcome:
    return Outcome(next="answer") if session.reopen() else Outcome("nothing to retry yet")


def _save(session: Session, argument: str) -> Outcome:
    return Outcome(f"saved to {session.save(argument)}")


def _help(session: Session, argument: str) -> Outcome:
    shown = [(f"/{name} {command.argument}", command.help) for name, command in COMMANDS.items()]
    lines = [f"{usage:<15} {text}" for usage, text in shown]
    return Outcome("\n".join([*lines, *KEYS]))


def _quit(session: Session, argument: str) -> Outcome:
    return Outcome(next="quit")


COMMANDS = {
    "clear": Command("", "start again with the same system message", _clear),
    "system": Command("[TEXT]", "set or show the system message (- for none)", _system),
    "retry": Command("", "answer the last question again", _retry),
    "save": Command("[FILE]", "save as JSONL, never over another file", _save),
    "help": Command("", "this list", _help),
    "quit": Command("", "leave (also Ctrl-D)", _quit),
}

KEYS = (
    "Alt-Enter       new line (also Esc Enter, or \\ then Enter)",
    "Ctrl-C          stop the answer; what was said is kept",
)
