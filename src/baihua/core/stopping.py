"""Stopping: SIGTERM or Ctrl-C ends work at the next safe point, a second Ctrl-C at once.

Elsewhere SIGTERM behaves like Ctrl-C.
"""

import logging
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

# Not from core.log, which imports rich: `baihua --help` passes here.
logger = logging.getLogger("baihua")


@contextmanager
def sigterm_as_ctrl_c() -> Generator[None]:
    """Let SIGTERM raise KeyboardInterrupt, so that it cleans up and exits with the same status as Ctrl-C."""
    if not _may_handle_signals():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class StopRequest:
    """A context around work that checks `is_requested` and then stops; SIGTERM and Ctrl-C set it."""

    def __init__(self) -> None:
        self.is_requested = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopRequest":
        if _may_handle_signals():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_requested = True
        logger.info("stopping after this step; progress will be saved")


def _may_handle_signals() -> bool:
    """Python allows signal handlers only in the main thread."""
    return threading.current_thread() is threading.main_thread()
