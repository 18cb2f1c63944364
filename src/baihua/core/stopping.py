"""A polite end: SIGTERM or Ctrl-C asks the work to stop at the next safe place; a second Ctrl-C stops at once."""

import signal
import threading
from types import FrameType

from baihua.core.log import logger


class StopRequest:
    """Whether somebody asked this process to stop; used as a context around work that looks at `is_asked`."""

    def __init__(self) -> None:
        self.is_asked = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopRequest":
        # Python lets the main thread alone handle signals.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_asked = True
        logger.info("stopping after this step; what is done will be saved")
