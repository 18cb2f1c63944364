"""Messages and progress bars on stderr, and figures over time in `metrics.jsonl`."""

import contextlib
import json
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from baihua.core.files import write_text

logger = logging.getLogger("baihua")


def set_up(*, debug: bool = False, is_quiet: bool = False) -> None:
    """Print this process's messages to stderr; only warnings where `is_quiet`."""
    handler = RichHandler(console=Console(stderr=True), show_time=False, show_path=False, markup=False)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if debug else logging.WARNING if is_quiet else logging.INFO)
    # It warns about a kernel that is not used here, and about a cast in every layer.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # peft 0.21 uses a deprecated name of transformers 5.23; a user cannot change that.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


class ProgressBar:
    """A progress bar with figures on stderr; a line for each tenth of the work where stderr is not a terminal."""

    def __init__(self, progress: Progress, title: str, total: int, done: int) -> None:
        self._progress = progress
        self._title = title
        self._total = total
        self._done = done
        self._task = progress.add_task(title, total=total, completed=done, figures="")

    def advance(self, steps: int = 1, *, figures: str = "") -> None:
        """Advance the bar and show the latest figures."""
        tenth_before = 10 * self._done // self._total
        self._done += steps
        self._progress.update(self._task, advance=steps, figures=figures)
        if not self._progress.console.is_terminal and 10 * self._done // self._total > tenth_before:
            logger.info("%s %d/%d  %s", self._title, self._done, self._total, figures)


@contextmanager
def progress_bar(title: str, total: int, *, done: int = 0, is_shown: bool = True) -> Generator[ProgressBar]:
    """A progress bar of `total` steps, of which `done` are done already."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
        disable=not console.is_terminal or not is_shown,
    )
    with progress:
        yield ProgressBar(progress, title, total, done)


class MetricsFile:
    """A file of one JSON object per line, flushed line by line, so that a killed run keeps its figures."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def write(self, **figures: Any) -> None:
        """Append one line."""
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(figures, ensure_ascii=False) + "\n")

    def keep_until(self, step: int, *, with_key: str) -> None:
        """Remove the lines after `step`, and those without a key: a resumed run writes them again."""
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        kept: list[str] = []
        for line in lines:
            # A kill may have cut the last line short.
            with contextlib.suppress(json.JSONDecodeError, KeyError):
                figures = json.loads(line)
                if with_key in figures and int(figures["step"]) <= step:
                    kept.append(line + "\n")
        write_text(self.file, "".join(kept))
