"""A bounded FIFO queue before an engine; requests beyond its limit are rejected at once."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from baihua.serve.web.errors import HttpError


class RequestQueue:
    """Admits as many requests as the engine has slots, and queues a limited number of others.

    A request is counted before it first awaits anything, so requests that arrive in the same turn of the event loop
    see each other.
    """

    def __init__(self, num_slots: int, *, max_waiting: int, max_wait_seconds: float = 60.0) -> None:
        self._num_slots = num_slots
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        # In order of arrival; resolved to True when a slot is granted, to False when the server stops.
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._seconds_per_answer = 1.0
        self.num_running = 0
        self.is_closed = False

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot; an HttpError if the queue is full, the wait too long or the server stopping."""
        await self._acquire()
        started = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            seconds = asyncio.get_running_loop().time() - started
            self._seconds_per_answer += 0.2 * (seconds - self._seconds_per_answer)
            self._release()

    def close(self) -> None:
        """Reject waiting and new requests; running answers go on."""
        self.is_closed = True
        while self._waiting:
            self._waiting.popleft().set_result(False)

    async def _acquire(self) -> None:
        if self.is_closed:
            raise _stopping()
        if self.num_running < self._num_slots:
            self.num_running += 1
            return
        if self.num_waiting >= self._max_waiting:
            message = f"the request queue is full ({self.num_waiting} waiting); retry later"
            raise HttpError(429, message, code="queue_full", retry_after=self._retry_after())
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait({turn}, timeout=self._max_wait_seconds)
        except asyncio.CancelledError:
            # The slot may have been granted in the same moment.
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.result():
                self._release()
            raise
        if turn in self._waiting:
            self._waiting.remove(turn)
            message = f"no slot became free within {self._max_wait_seconds:g} s; retry later"
            raise HttpError(503, message, code="queue_timeout", retry_after=self._retry_after())
        if not turn.result():
            raise _stopping()

    def _release(self) -> None:
        """Hand the slot to the request that has waited longest."""
        if self._waiting:
            self._waiting.popleft().set_result(True)
        else:
            self.num_running -= 1

    def _retry_after(self) -> int:
        """Seconds until a slot may be free: the mean duration of an answer, from 1 to 60."""
        return max(1, min(60, round(self._seconds_per_answer)))


def _stopping() -> HttpError:
    return HttpError(503, "the server is stopping; retry later", code="stopping", retry_after=5)
