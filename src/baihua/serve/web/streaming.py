"""Answers as streams: blocking work on threads, cancellation when the client disconnects, server-sent events."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from baihua.serve.web.errors import HttpError

T = TypeVar("T")
Callback = Callable[[T], bool]
"""Takes the next item; returns True when no more are wanted."""
CLIENT_CLOSED_REQUEST = 499  # nginx's status for it; there is no client left to read the response
DONE = b"data: [DONE]\n\n"


def iterate_in_thread(make: Callable[[], Iterator[T]], *, threads: Executor) -> AsyncGenerator[T]:
    """Create an iterator on a thread and yield its items; closing this generator closes the iterator.

    It is closed on its own thread, at its next item, because a running generator cannot be closed from outside.
    """

    def work(receive: Callback[T]) -> None:
        for item in make():
            if receive(item):
                return  # This drops the last reference to the iterator, which closes it.

    return run_in_thread(work, threads=threads)


async def run_in_thread(work: Callable[[Callback[T]], None], *, threads: Executor) -> AsyncGenerator[T]:
    """Run `work` on a thread and yield the items that it passes to its callback; its exception is raised at the end.

    Once this generator is closed, the callback returns True.
    """
    loop = asyncio.get_running_loop()
    # One-element tuples, so that None can mark the end.
    queue: asyncio.Queue[tuple[T] | None] = asyncio.Queue()
    is_closed = threading.Event()

    def receive(item: T) -> bool:
        if not is_closed.is_set():
            # RuntimeError: the loop was closed while the thread still ran, so there is no consumer left.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(queue.put_nowait, (item,))
        return is_closed.is_set()

    done = loop.run_in_executor(threads, work, receive)
    done.add_done_callback(lambda future: queue.put_nowait(None))
    # Retrieve the exception even if the consumer has gone; otherwise asyncio logs it as never retrieved.
    done.add_done_callback(lambda future: future.cancelled() or future.exception())
    try:
        while (item := await queue.get()) is not None:
            yield item[0]
        await done
    finally:
        is_closed.set()


async def cancel_on_disconnect(work: Awaitable[T], receive: Receive) -> T:
    """The result of `work`, which is cancelled if the client disconnects; then an HttpError 499.

    The request's body must have been read before.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HttpError(CLIENT_CLOSED_REQUEST, "the client disconnected")
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        # Cancelled work still has to release its slot before this request is over.
        await asyncio.wait({working})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def as_event(data: Mapping[str, Any]) -> bytes:
    """One server-sent event with JSON data."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class EventStream(Response):
    """A response of server-sent events; when the client disconnects, the generator of events is closed."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send each event as soon as it arrives."""
        try:
            await cancel_on_disconnect(self._send(send), receive)
        except HttpError as error:
            if error.status_code != CLIENT_CLOSED_REQUEST:
                raise

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
