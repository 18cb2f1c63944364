"""A polite end: SIGTERM or Ctrl-C asks the work to stop at the next safe place; a second Ctrl-C stops at once.

Outside of such work SIGTERM is what Ctrl-C is.
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
    """SIGTERM raises KeyboardInterrupt too, so that what Ctrl-C tidies is tidied, and the status is the same."""
    if not _may_handle_signals():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class StopRequest:
    """Whether somebody asked this process to stop; used as a context around work that looks at `is_requested`."""

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
        logger.info("stopping after this step; what is done will be saved")


def _may_handle_signals() -> bool:
    """Python lets the main thread alone do so."""
    return threading.current_thread() is threading.main_thread()
