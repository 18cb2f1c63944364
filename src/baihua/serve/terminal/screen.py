"""Where answers and notes go; here plain, for pipes, in terminal_screen.py with Markdown, for a terminal."""

import unicodedata
from collections.abc import Sequence
from typing import Protocol, TextIO

from baihua.chat.types import Span
from baihua.core.errors import InputError


class Screen(Protocol):
    """What shows a conversation."""

    def wait(self) -> None:
        """Show that an answer is on its way."""
        ...

    def show(self, text: str) -> None:
        """Show a part of an answer at once."""
        ...

    def finish(self) -> None:
        """End the answer; the line after it is empty."""
        ...

    def note(self, text: str) -> None:
        """Show lines that are not part of the conversation."""
        ...

    def reveal(self, spans: Sequence[Span]) -> None:
        """Show a prompt as it is, with its control tokens marked."""
        ...

    def use_markdown(self, is_on: bool) -> None:
        """Render answers as Markdown or leave them as they are; an InputError where that cannot be."""
        ...


class PlainScreen:
    """Answers and prompts on one stream, notes on another."""

    def __init__(self, answers: TextIO, notes: TextIO) -> None:
        self._answers = answers
        self._notes = notes
        self._is_begun = False

    def wait(self) -> None:
        """Show nothing."""

    def show(self, text: str) -> None:
        """Write a part of an answer and flush it."""
        self._is_begun |= bool(text)
        write(self._answers, printable(text))

    def finish(self) -> None:
        """End the line of an answer that has begun."""
        write(self._answers, "\n" if self._is_begun else "")
        self._is_begun = False

    def note(self, text: str) -> None:
        """Write a note."""
        write(self._notes, printable(text) + "\n")

    def reveal(self, spans: Sequence[Span]) -> None:
        """Write a prompt; a control token stands between double square brackets."""
        shown = (f"[[{span.text}]]" if span.is_control else span.text for span in spans)
        write(self._answers, printable("".join(shown)) + "\n")

    def use_markdown(self, is_on: bool) -> None:
        """Refuse: what reads the answers gets them as they are."""
        raise InputError("answers are rendered in a terminal only; here they are written as they come")


def printable(text: str) -> str:
    """A text without control characters but newline and tab: a model must not steer the terminal."""
    # Cs are halves of characters, which no stream can write.
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs"))


def write(stream: TextIO, text: str) -> None:
    """Write a text now, not when a buffer is full."""
    stream.write(text)
    stream.flush()
