"""A bounded queue before an engine: who comes first is served first, and who comes too late is told at once."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from baihua.serve.web.problem import Problem


class Gate:
    """Lets in as many requests as the engine works on at once, and a number of others wait.

    Whoever comes is counted before anything is waited for, so that those who come in the same turn of the event loop
    see each other.
    """

    def __init__(self, *, num_slots: int, max_waiting: int, max_wait_seconds: float) -> None:
        self._num_slots = num_slots
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        # In the order in which they came; a place that is given is True, one that never will be False.
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._seconds_per_answer = 1.0
        self.num_running = 0
        self.is_closed = False

    @property
    def num_waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Hold a place; a Problem where the queue is full, the wait too long or the server stops."""
        await self._take_place()
        started = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            seconds = asyncio.get_running_loop().time() - started
            self._seconds_per_answer += 0.2 * (seconds - self._seconds_per_answer)
            self._pass_on()

    def close(self) -> None:
        """Turn away whoever waits or comes; answers that are being written go on."""
        self.is_closed = True
        while self._waiting:
            self._waiting.popleft().set_result(False)

    async def _take_place(self) -> None:
        if self.is_closed:
            raise self._stopping()
        if self.num_running < self._num_slots:
            self.num_running += 1
            return
        if self.num_waiting >= self._max_waiting:
            raise Problem(429, "too many requests wait already", code="queue_full", retry_after=self._retry_after())
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await asyncio.wait({place}, timeout=self._max_wait_seconds)
        except asyncio.CancelledError:
            # A wait that is broken off may have got its place at the same moment.
            if place in self._waiting:
                self._waiting.remove(place)
            elif place.result():
                self._pass_on()
            raise
        if place in self._waiting:
            self._waiting.remove(place)
            raise Problem(503, "no place became free in time", code="queue_timeout", retry_after=self._retry_after())
        if not place.result():
            raise self._stopping()

    def _pass_on(self) -> None:
        """Give a place that becomes free to whoever has waited longest."""
        if self._waiting:
            self._waiting.popleft().set_result(True)
        else:
            self.num_running -= 1

    def _retry_after(self) -> int:
        """Seconds after which a place may be free: as long as answers take, at least one."""
        return max(1, min(60, round(self._seconds_per_answer)))

    def _stopping(self) -> Problem:
        return Problem(503, "the server is stopping", code="stopping", retry_after=5)
