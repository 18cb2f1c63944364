"""Screens, which show answers and notes: one for pipes, and one for a terminal, which renders Markdown.

In a terminal, finished blocks are printed for good and the last one is redrawn as it grows.
"""

import signal
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from baihua.chat.types import Span
from baihua.core.errors import InputError
from baihua.serve.terminal.markdown import AnswerMarkdown, ChineseText, blocks, printable

REFRESH_SECONDS = 0.1
ZERO_WIDTH_JOINER = "\u200d"


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


class TerminalScreen:
    """Answers rendered as Markdown or plain, dim notes, and control tokens of a prompt in reverse video."""

    def __init__(self, console: Console | None = None, *, is_plain: bool = False) -> None:
        self._console = console or Console(highlight=False)
        self._is_plain = is_plain
        self._growing: _GrowingAnswer | None = None
        self._has_text = False

    def wait(self) -> None:
        """Show that an answer is being generated, where that can be erased again."""
        self._has_text = False
        if not self._is_plain and self._console.is_terminal:
            self._growing = _GrowingAnswer(self._console)

    def show(self, text: str) -> None:
        """Show a part of an answer, at once or at the next refresh."""
        text = printable(text)
        self._has_text = self._has_text or bool(text)
        if self._growing:
            with _deferred_interrupt():
                self._growing.add(text)
        else:
            self._console.out(text, end="", highlight=False)
            self._console.file.flush()

    def finish(self) -> None:
        """Print what was still growing for good, and end the last line."""
        growing, self._growing = self._growing, None
        if growing:
            with _deferred_interrupt():
                growing.end()
        elif self._has_text:
            self._console.out("")

    def note(self, text: str) -> None:
        """Print a dim note."""
        self._console.print(ChineseText(printable(text), style="bright_black"))

    def show_prompt(self, spans: Sequence[Span]) -> None:
        """Print a prompt, its control tokens in reverse video."""
        shown = ChineseText()
        for span in spans:
            shown.append(printable(span.text), "reverse" if span.is_control else "")
        self._console.print(shown)

    def use_markdown(self, is_on: bool) -> None:
        """Turn the rendering of Markdown on or off."""
        self._is_plain = not is_on


@contextmanager
def _deferred_interrupt() -> Generator[None]:
    """Delay Ctrl-C while something is drawn; a half-drawn region would stay on the screen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt


class _GrowingAnswer:
    """An answer being generated: finished blocks printed above, the last one live below them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = ""
        self._has_printed = False
        self._next_refresh = 0.0
        # Not refreshed by rich's own thread, which could write while a print measures and draws.
        self._live = Live(_BlockView(""), console=console, auto_refresh=False, transient=True)
        self._live.start(refresh=True)

    def add(self, text: str) -> None:
        """Add a part; blocks that it finishes are printed for good."""
        self._text += text
        done: list[str] = []
        if "\n" in text:
            *done, self._text = blocks(self._text)
            self._print(done)
        now = time.monotonic()
        if done or now >= self._next_refresh:
            # A joiner at the end would combine with whatever is written to the terminal next.
            self._live.update(_BlockView(self._text.rstrip(ZERO_WIDTH_JOINER), is_growing=True), refresh=True)
            self._next_refresh = now + REFRESH_SECONDS

    def end(self) -> None:
        """Print the rest for good."""
        self._live.stop()
        self._print(blocks(self._text))

    def _print(self, done: Sequence[str]) -> None:
        for text in filter(str.strip, done):
            if self._has_printed:
                self._console.print()
            self._has_printed = True
            self._console.print(_BlockView(text), end="")


class _BlockView:
    """A block without surrounding blank lines; if it is growing, only its last lines."""

    def __init__(self, text: str, *, is_growing: bool = False) -> None:
        self._text = text
        self._is_growing = is_growing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = AnswerMarkdown(self._text) if self._text.strip() else Text("...", style="bright_black")
        lines = console.render_lines(shown, options.update(height=None), pad=False)
        full = [number for number, line in enumerate(lines) if any(segment.text.strip() for segment in line)]
        lines = lines[full[0] : full[-1] + 1] if full else []
        # A redrawn region must fit on the screen.
        for line in lines[-max(1, console.height - 2) :] if self._is_growing else lines:
            yield from line
            yield Segment.line()
