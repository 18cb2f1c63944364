"""Work for a client that may leave at any moment."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from baihua.serve.web.problem import Problem

T = TypeVar("T")
CLIENT_LEFT = 499  # nginx's number for it; nobody reads this answer


async def unless_gone(work: Awaitable[T], receive: Receive) -> T:
    """The result of work, which is cancelled as soon as the client has left; then a Problem that nobody reads.

    The body of the request must have been read before.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_until_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Problem(CLIENT_LEFT, "the client left")
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        # Whatever holds a place must have let go of it before this request is over.
        await asyncio.wait({working})


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A response of server-sent events; when the client leaves, their generator is closed."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send each event as it comes."""
        try:
            await unless_gone(self._send(send), receive)
        except Problem as problem:
            if problem.status != CLIENT_LEFT:
                raise

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
