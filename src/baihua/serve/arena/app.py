"""The arena's server: its page, battles, votes and table."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from baihua.chat.types import Message, Piece
from baihua.core.errors import BaihuaError, TooLongError
from baihua.core.log import logger
from baihua.serve.arena.battles import SIDES, Battle, Battles, Clock
from baihua.serve.arena.table import make_table
from baihua.serve.web.app import make_app
from baihua.serve.web.body import read_model
from baihua.serve.web.guard import Rules
from baihua.serve.web.pages import page_routes
from baihua.serve.web.pump import pump
from baihua.serve.web.stream import EventStream

# Answers at once; each has two sides.
MAX_ANSWERS = 16


class Base(BaseModel):
    """Strict, and nothing that it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NewBattle(Base):
    """POST /arena/battles."""

    question_id: str | None = None


class Ask(Base):
    """POST /arena/battles/ID/ask."""

    text: Annotated[str, Field(min_length=1, max_length=100_000)]


class Vote(Base):
    """POST /arena/battles/ID/vote."""

    vote: Literal["a", "b", "tie", "both_bad"]


def make_arena(battles: Battles, *, rules: Rules) -> Starlette:
    """The application; its end closes the models and the file of votes."""
    threads = ThreadPoolExecutor(2 * MAX_ANSWERS, "answer")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        threads.shutdown(wait=True)
        for model in battles.models.values():
            model.close()
        battles.votes.close()

    calls = Calls(battles, threads)
    return make_app([*calls.routes(), *page_routes("arena.html")], rules=rules, lifespan=lifespan)


class Calls:
    """The calls of the page."""

    def __init__(self, battles: Battles, threads: ThreadPoolExecutor) -> None:
        self._battles = battles
        self._threads = threads

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/arena/state", self.state),
            Route("/arena/table", self.table),
            Route("/arena/battles", self.begin, methods=["POST"]),
            Route("/arena/battles/{id}/ask", self.ask, methods=["POST"]),
            Route("/arena/battles/{id}/vote", self.vote, methods=["POST"]),
            Route("/health", self.health),
        ]

    async def state(self, request: Request) -> Response:
        """How far the votes have come."""
        known, following = self._battles.questions, self._battles.next
        asked = {"id": following.id, "category": following.category, "text": following.text} if following else None
        questions = {"num": len(known), "next": asked, "num_done": len(self._battles.done)} if known else None
        about = {"num_models": len(self._battles.models), "num_votes": len(self._battles.votes.rows)}
        return JSONResponse(about | {"questions": questions})

    async def table(self, request: Request) -> Response:
        """Ratings of all votes of the file."""
        found = await run_in_threadpool(make_table, list(self._battles.votes.rows), list(self._battles.models))
        return JSONResponse(found)

    async def begin(self, request: Request) -> Response:
        """A new battle."""
        wanted = await read_model(request, NewBattle)
        return JSONResponse({"battle": self._battles.begin(wanted.question_id).id})

    async def ask(self, request: Request) -> Response:
        """Both answers, interleaved as they come."""
        wanted = await read_model(request, Ask)
        battle = self._battles.find(request.path_params["id"])
        self._battles.ask(battle, wanted.text)
        return EventStream(self._answer(battle))

    async def vote(self, request: Request) -> Response:
        """Take the vote, and tell who was who."""
        wanted = await read_model(request, Vote)
        battle = self._battles.find(request.path_params["id"])
        return JSONResponse(await run_in_threadpool(self._battles.vote, battle, wanted.vote))

    async def health(self, request: Request) -> Response:
        """Whether the arena runs."""
        return JSONResponse({"status": "ok"})

    async def _answer(self, battle: Battle) -> AsyncGenerator[bytes]:
        arrived: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        working = [asyncio.create_task(self._answer_one(battle, side, arrived)) for side in SIDES]
        num_open = len(working)
        try:
            while num_open:
                event = await arrived.get()
                if event is None:
                    num_open -= 1
                else:
                    yield b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
            yield b"data: [DONE]\n\n"
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            battle.is_answering = False

    async def _answer_one(self, battle: Battle, name: str, arrived: "asyncio.Queue[dict[str, Any] | None]") -> None:
        """One side's answer; what was said before it was stopped stays said."""
        side = battle.sides[name]
        clock, text = Clock(side), ""
        pieces = pump(lambda: side.model.stream(list(side.turns), self._battles.sampling), threads=self._threads)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    text += piece.text
                    _tell(piece, name, arrived)
        except BaihuaError as error:
            # A model's own words for what went wrong could tell which one it is.
            logger.error("an answer failed: %s", error)
            said = "the conversation is too long" if isinstance(error, TooLongError) else "this model failed"
            arrived.put_nowait({"side": name, "error": said})
        finally:
            clock.stop()
            if text.strip():
                side.turns.append(Message("assistant", text.strip()))
            arrived.put_nowait(None)


def _tell(piece: Piece, side: str, arrived: "asyncio.Queue[dict[str, Any] | None]") -> None:
    if piece.text:
        arrived.put_nowait({"side": side, "delta": piece.text})
    if piece.finish_reason:
        arrived.put_nowait({"side": side, "finish_reason": piece.finish_reason})
