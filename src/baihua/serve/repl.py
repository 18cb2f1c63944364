"""The chat in a terminal; with input from a pipe, one answer per line."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from baihua.chat.types import ChatModel, Sampling
from baihua.core.errors import InputError
from baihua.serve.answering import printable
from baihua.serve.commands import take
from baihua.serve.session import Session


def run_repl(
    model: ChatModel, *, system: str | None, sampling: Sampling, history_file: Path | None, save_folder: Path
) -> None:
    """Chat until the person leaves; without a terminal, answer each line of stdin until it ends."""
    session = Session(system=system, save_folder=save_folder)
    if sys.stdin.isatty():
        from baihua.serve.terminal import chat_on_terminal

        chat_on_terminal(session, model, sampling, history_file=history_file)
    else:
        chat_on_lines(session, model, sampling, lines=_decoded(sys.stdin.buffer))


def chat_on_lines(session: Session, model: ChatModel, sampling: Sampling, *, lines: Iterable[str]) -> None:
    """Answer each line; answers go to stdout, everything else to stderr."""
    screen = PlainScreen()
    for text in _joined(lines):
        if not take(text, session, model, sampling, screen):
            return


class PlainScreen:
    """Answers on stdout, notes on stderr."""

    def show(self, text: str) -> None:
        """Write a part of an answer and flush it."""
        print(printable(text), end="", flush=True)

    def note(self, text: str) -> None:
        """Write a note and flush it."""
        print(printable(text), file=sys.stderr, flush=True)


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
