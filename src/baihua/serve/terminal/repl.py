"""The chat in a terminal; with input from a pipe, one answer per line."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from baihua.chat.types import ChatModel, Sampling
from baihua.core.errors import InputError
from baihua.serve.terminal.answering import Chat
from baihua.serve.terminal.commands import take
from baihua.serve.terminal.screen import PlainScreen
from baihua.serve.terminal.session import Session


def run_repl(
    model: ChatModel,
    *,
    system: str | None,
    sampling: Sampling,
    history_file: Path | None,
    save_folder: Path,
    is_plain: bool = False,
) -> None:
    """Chat until the person leaves; without a terminal, answer each line of stdin until it ends."""
    session = Session(system=system, sampling=sampling)
    if sys.stdin.isatty() and sys.stdout.isatty():
        from baihua.serve.terminal.prompt import chat_on_terminal
        from baihua.serve.terminal.terminal_screen import TerminalScreen

        screen = TerminalScreen(is_plain=is_plain)
        chat_on_terminal(Chat(session, model, screen, save_folder), history_file=history_file)
    else:
        chat_on_lines(
            Chat(session, model, PlainScreen(sys.stdout, sys.stderr), save_folder), lines=_decoded(sys.stdin.buffer)
        )


def chat_on_lines(chat: Chat, *, lines: Iterable[str]) -> None:
    """Answer each line; without a terminal answers go to stdout, everything else to stderr."""
    for text in _joined(lines):
        if not take(text, chat):
            return


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Lines without their ends; one that ends with a backslash goes on in the next."""
    held = ""
    for line in lines:
        held += line.rstrip("\r\n")
        if held.endswith("\\"):
            held = held[:-1] + "\n"
            continue
        yield held
        held = ""
    if held:
        yield held


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"the input is not UTF-8: {error.reason}", where=f"stdin:{number}", fix="convert it to UTF-8"
            ) from error
