"""The screen of a terminal: Markdown that grows at the bottom and stays as it is once a block of it has ended."""

import signal
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from baihua.chat.types import Span
from baihua.serve.terminal.chinese_text import ChineseText
from baihua.serve.terminal.markdown import Answer, blocks
from baihua.serve.terminal.screen import printable

REFRESH_SECONDS = 0.1
JOINER = "\u200d"


class TerminalScreen:
    """Answers as Markdown, or as they come; notes dim; control tokens of a prompt in reverse."""

    def __init__(self, console: Console | None = None, *, is_plain: bool = False) -> None:
        self._console = console or Console(highlight=False)
        self._is_plain = is_plain
        self._growing: _Growing | None = None
        self._is_begun = False

    def wait(self) -> None:
        """Show that an answer is on its way, where that can be taken back."""
        self._is_begun = False
        if not self._is_plain and self._console.is_terminal:
            self._growing = _Growing(self._console)

    def show(self, text: str) -> None:
        """Show a part of an answer at once, or at the next refresh."""
        text = printable(text)
        self._is_begun = self._is_begun or bool(text)
        if self._growing:
            with _undisturbed():
                self._growing.add(text)
        else:
            self._console.out(text, end="", highlight=False)
            self._console.file.flush()

    def finish(self) -> None:
        """End the answer: what was still growing is printed for good."""
        growing, self._growing = self._growing, None
        if growing:
            with _undisturbed():
                growing.end()
        elif self._is_begun:
            self._console.out("")

    def note(self, text: str) -> None:
        """Write a note in a dim colour."""
        self._console.print(ChineseText(printable(text), style="bright_black"))

    def reveal(self, spans: Sequence[Span]) -> None:
        """Write a prompt, with its control tokens in reverse."""
        shown = ChineseText()
        for span in spans:
            shown.append(printable(span.text), "reverse" if span.is_control else "")
        self._console.print(shown)

    def use_markdown(self, is_on: bool) -> None:
        """Render answers as Markdown or leave them as they come."""
        self._is_plain = not is_on


@contextmanager
def _undisturbed() -> Generator[None]:
    """Let Ctrl-C wait until something is drawn: what is half drawn would stay on the screen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


class _Growing:
    """An answer that is being written: blocks that have ended above, the last one live below them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = ""
        self._has_printed = False
        self._next_refresh = 0.0
        # Refreshed here and not by its own thread, which writes between what a print has measured and what it writes.
        self._live = Live(_Block(""), console=console, auto_refresh=False, transient=True)
        self._live.start(refresh=True)

    def add(self, text: str) -> None:
        """Take a part; blocks that it ends are printed for good."""
        self._text += text
        done: list[str] = []
        if "\n" in text:
            *done, self._text = blocks(self._text)
            self._print(done)
        now = time.monotonic()
        if done or now >= self._next_refresh:
            # A joiner whose other half is still to come would join whatever a terminal is told next.
            self._live.update(_Block(self._text.rstrip(JOINER), is_growing=True), refresh=True)
            self._next_refresh = now + REFRESH_SECONDS

    def end(self) -> None:
        """Print the rest for good."""
        self._live.stop()
        self._print(blocks(self._text))

    def _print(self, done: Sequence[str]) -> None:
        for text in done:
            if not text.strip():
                continue
            if self._has_printed:
                self._console.print()
            self._has_printed = True
            self._console.print(_Block(text), end="")


class _Block:
    """A block without the blank lines around it; of one that still grows, the last lines."""

    def __init__(self, text: str, *, is_growing: bool = False) -> None:
        self._text = text
        self._is_growing = is_growing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = Answer(self._text) if self._text.strip() else Text("...", style="bright_black")
        lines = console.render_lines(shown, options.update(height=None), pad=False)
        full = [number for number, line in enumerate(lines) if any(segment.text.strip() for segment in line)]
        lines = lines[full[0] : full[-1] + 1] if full else []
        # A region that is drawn again must fit on the screen.
        for line in lines[-max(1, console.height - 2) :] if self._is_growing else lines:
            yield from line
            yield Segment.line()
