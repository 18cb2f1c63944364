"""A server that speaks to our pages as `baihua serve` and `baihua arena` do, with answers that a test has written."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from baihua.serve.web.app import make_app
from baihua.serve.web.errors import HttpError
from baihua.serve.web.request_body import read_json
from baihua.serve.web.server import listen
from baihua.serve.web.streaming import EventStream

Event = dict[str, object]


@dataclass(slots=True)
class Reply:
    """One answer: its pieces in order, or a problem instead of it."""

    text: str = "好的。"
    num_chars_per_piece: int = 3
    seconds_per_piece: float = 0.0
    finish: str = "stop"
    problem: HttpError | None = None
    is_broken: bool = False
    """Ends without a word, as when the server dies."""
    error: str | None = None
    """Told in the middle of the stream."""
    is_endless: bool = False
    """Never comes to its end; for a test that stops it."""

    def pieces(self) -> list[str]:
        """The text as it is sent."""
        size = self.num_chars_per_piece
        return [self.text[start : start + size] for start in range(0, len(self.text), size)]


@dataclass(slots=True)
class PageServer:
    """What the server will answer, and what it was asked."""

    replies: list[Reply] = field(default_factory=list)
    models: list[str] = field(default_factory=lambda: ["baihua-1.7b"])
    questions: list[Event] | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    num_left: int = 0
    """Answers that the client did not wait for."""
    votes: list[dict[str, str]] = field(default_factory=list)
    vote_problem: HttpError | None = None
    table: Event | None = None
    address: str = ""

    def next_reply(self) -> Reply:
        """The next of the written answers; a plain one where there are no more."""
        return self.replies.pop(0) if self.replies else Reply()

    async def list_models(self, request: Request) -> JSONResponse:
        """GET /v1/models."""
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "baihua", "context_length": 4096}
            for name in self.models
        ]
        return JSONResponse({"object": "list", "data": data})

    async def chat(self, request: Request) -> EventStream:
        """POST /v1/chat/completions."""
        self.asked.append(await read_json(request))
        reply = self.next_reply()
        if reply.problem is not None:
            raise reply.problem
        return EventStream(self._stream(reply))

    async def _stream(self, reply: Reply) -> AsyncGenerator[bytes]:
        is_whole = False
        try:
            yield b": a comment keeps the line alive\n\n"
            for piece in reply.pieces():
                yield _event(_chunk({"content": piece}, None))
                await asyncio.sleep(reply.seconds_per_piece)
            while reply.is_endless:
                await asyncio.sleep(0.05)
                yield b": still here\n\n"
            is_whole = True
            if reply.is_broken:
                return
            if reply.error is not None:
                yield _event({"error": {"message": reply.error, "type": "server_error", "code": None}})
                return
            yield _event(_chunk({}, reply.finish))
            num_tokens = len(reply.text)
            usage = {"prompt_tokens": 12, "completion_tokens": num_tokens, "total_tokens": 12 + num_tokens}
            yield _event({**_chunk({}, None), "choices": [], "usage": usage})
            yield b"data: [DONE]\n\n"
        finally:
            self.num_left += not is_whole

    async def state(self, request: Request) -> JSONResponse:
        """GET /arena/state."""
        questions = None
        if self.questions is not None:
            num_done = min(len(self.votes), len(self.questions))
            following = self.questions[num_done] if num_done < len(self.questions) else None
            questions = {"num": len(self.questions), "next": following, "num_done": num_done}
        return JSONResponse({"num_models": 3, "num_votes": len(self.votes), "questions": questions})

    async def begin(self, request: Request) -> JSONResponse:
        """POST /arena/battles."""
        self.asked.append(await read_json(request))
        return JSONResponse({"battle": f"battle-{len(self.votes)}"})

    async def ask(self, request: Request) -> EventStream:
        """POST /arena/battles/ID/ask."""
        self.asked.append(await read_json(request))
        return EventStream(self._stream_two(self.next_reply(), self.next_reply()))

    async def _stream_two(self, a: Reply, b: Reply) -> AsyncGenerator[bytes]:
        replies = {"a": a, "b": b}
        rest = {side: reply.pieces() for side, reply in replies.items()}
        while any(rest.values()):
            for side in [side for side in rest if rest[side]]:
                yield _event({"side": side, "delta": rest[side].pop(0)})
                await asyncio.sleep(replies[side].seconds_per_piece)
        for side, reply in replies.items():
            yield _event(
                {"side": side, "error": reply.error} if reply.error else {"side": side, "finish_reason": reply.finish}
            )
        yield b"data: [DONE]\n\n"

    async def vote(self, request: Request) -> JSONResponse:
        """POST /arena/battles/ID/vote."""
        vote = await read_json(request)
        if self.vote_problem is not None:
            raise self.vote_problem
        self.votes.append(vote)
        return JSONResponse({"a": "baihua-1.7b", "b": "baihua-0.6b", "num_votes": len(self.votes)})

    async def read_table(self, request: Request) -> JSONResponse:
        """GET /arena/table."""
        return JSONResponse(self.table or {"num_votes": 0, "rows": [], "pairs": [], "note": None})

    def routes(self) -> list[Route]:
        """Every address but those of the pages."""
        return [
            Route("/v1/models", self.list_models),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/arena/state", self.state),
            Route("/arena/battles", self.begin, methods=["POST"]),
            Route("/arena/battles/{id}/ask", self.ask, methods=["POST"]),
            Route("/arena/battles/{id}/vote", self.vote, methods=["POST"]),
            Route("/arena/table", self.read_table),
        ]


@contextmanager
def serve_pages(start: str, key: str | None = None) -> Iterator[PageServer]:
    """A running server whose first page is `start`."""
    pages = PageServer()
    app = make_app(pages.routes(), page=start, key=key)
    at = listen("127.0.0.1", 0)
    pages.address = f"http://127.0.0.1:{at.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]})
    thread.start()
    try:
        yield pages
    finally:
        server.should_exit = True
        thread.join()
        at.close()


def _chunk(delta: Event, finish: str | None) -> Event:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}


def _event(data: Event) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
