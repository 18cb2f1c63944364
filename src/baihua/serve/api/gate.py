"""A bounded queue before an engine: who comes first is served first, and who comes too late is told at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from baihua.serve.web.problem import Problem


class Gate:
    """Lets in as many requests as the engine works on at once, and a number of others wait."""

    def __init__(self, *, num_slots: int, max_waiting: int, max_wait_seconds: float) -> None:
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        # Those who wait are let in in the order in which they came.
        self._slots = asyncio.Semaphore(num_slots)
        self._closing = asyncio.Event()
        self._seconds_per_answer = 1.0
        self.num_running = 0
        self.num_waiting = 0

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Hold a place; a Problem where the queue is full, the wait too long or the server stops."""
        await self._wait()
        self.num_running += 1
        started = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            seconds = asyncio.get_running_loop().time() - started
            self._seconds_per_answer += 0.2 * (seconds - self._seconds_per_answer)
            self.num_running -= 1
            self._slots.release()

    def close(self) -> None:
        """Turn away whoever waits or comes; answers that are being written go on."""
        self._closing.set()

    @property
    def is_closed(self) -> bool:
        """Whether nobody is let in any more."""
        return self._closing.is_set()

    async def _wait(self) -> None:
        if self.is_closed:
            raise self._stopping()
        if self._slots.locked() and self.num_waiting >= self._max_waiting:
            raise Problem(429, "too many requests wait already", code="queue_full", retry_after=self._retry_after())
        self.num_waiting += 1
        slot = asyncio.ensure_future(self._slots.acquire())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({slot, closing}, timeout=self._max_wait_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.num_waiting -= 1
            closing.cancel()
            has_slot = slot.done() and not slot.cancelled()
            # A wait that was broken off may have got its place at the same moment.
            task = asyncio.current_task()
            if not has_slot:
                slot.cancel()
            elif task is not None and task.cancelling():
                self._slots.release()
        if not has_slot:
            if self.is_closed:
                raise self._stopping()
            raise Problem(503, "no place became free in time", code="queue_timeout", retry_after=self._retry_after())

    def _retry_after(self) -> int:
        """Seconds after which a place may be free: as long as answers take, at least one."""
        return max(1, min(60, round(self._seconds_per_answer)))

    def _stopping(self) -> Problem:
        return Problem(503, "the server is stopping", code="stopping", retry_after=5)
