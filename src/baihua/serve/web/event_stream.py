"""Server-sent events, and work that is cancelled when the client disconnects."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from baihua.serve.web.errors import HttpError

T = TypeVar("T")
CLIENT_CLOSED_REQUEST = 499  # nginx's status for it; there is no client left to read the response
DONE = b"data: [DONE]\n\n"


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
