"""Screens, which show answers and notes; this one is for pipes, terminal_screen.py has the one with Markdown."""

import unicodedata
from collections.abc import Sequence
from typing import Protocol, TextIO

from baihua.chat.types import Span
from baihua.core.errors import InputError


class Screen(Protocol):
    """Shows a conversation."""

    def wait(self) -> None:
        """Show that an answer is being generated."""
        ...

    def show(self, text: str) -> None:
        """Show a part of an answer as soon as possible."""
        ...

    def finish(self) -> None:
        """End the answer and its last line."""
        ...

    def note(self, text: str) -> None:
        """Show a message that is not part of the conversation."""
        ...

    def show_prompt(self, spans: Sequence[Span]) -> None:
        """Show a rendered prompt with its control tokens marked."""
        ...

    def use_markdown(self, is_on: bool) -> None:
        """Turn the rendering of Markdown on or off; an InputError if this screen cannot render."""
        ...


class PlainScreen:
    """Writes answers and prompts to one stream, notes to another."""

    def __init__(self, answers: TextIO, notes: TextIO) -> None:
        self._answers = answers
        self._notes = notes
        self._has_text = False

    def wait(self) -> None:
        """Show nothing."""

    def show(self, text: str) -> None:
        """Write a part of an answer."""
        self._has_text |= bool(text)
        print(printable(text), end="", file=self._answers, flush=True)

    def finish(self) -> None:
        """End the line of an answer that has text."""
        print("\n" if self._has_text else "", end="", file=self._answers, flush=True)
        self._has_text = False

    def note(self, text: str) -> None:
        """Write a note."""
        print(printable(text), file=self._notes, flush=True)

    def show_prompt(self, spans: Sequence[Span]) -> None:
        """Write a prompt, its control tokens in double square brackets."""
        shown = (f"[[{span.text}]]" if span.is_control else span.text for span in spans)
        print(printable("".join(shown)), file=self._answers, flush=True)

    def use_markdown(self, is_on: bool) -> None:
        """Raise an InputError: programs that read the answers need them unchanged."""
        raise InputError("answers are rendered in a terminal only; piped output is left as it is")


def printable(text: str) -> str:
    """A text without control characters except newline and tab, so that a model cannot control the terminal."""
    # Lone surrogates (Cs) are removed too: no stream can encode them.
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs"))
