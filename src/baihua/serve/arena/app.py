"""The arena's server: its page, battles, votes and ratings."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from baihua.chat.types import Message, Piece
from baihua.core.errors import BaihuaError, TooLongError
from baihua.core.log import logger
from baihua.serve.arena.battles import SIDES, Battles, OpenBattle
from baihua.serve.arena.votes import make_table
from baihua.serve.web.app import make_app
from baihua.serve.web.request_body import RequestModel, read_model
from baihua.serve.web.streaming import DONE, EventStream, as_event, iterate_in_thread

# Battles answered at the same time, with two threads each.
MAX_ANSWERING = 16

Events = asyncio.Queue[dict[str, Any] | None]
"""Events of both sides in order of arrival; None where a side ends."""


class BeginRequest(RequestModel):
    """POST /arena/battles."""

    question_id: str | None = None


class AskRequest(RequestModel):
    """POST /arena/battles/ID/ask."""

    text: Annotated[str, Field(min_length=1, max_length=100_000)]


class VoteRequest(RequestModel):
    """POST /arena/battles/ID/vote."""

    vote: Literal["a", "b", "tie", "both_bad"]


def make_arena(battles: Battles, *, key: str | None) -> Starlette:
    """The application; its shutdown closes the models and the vote file."""
    threads = ThreadPoolExecutor(2 * MAX_ANSWERING, "answer")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        threads.shutdown(wait=True)
        for model in battles.models.values():
            model.close()
        battles.votes.close()

    return make_app(ArenaApi(battles, threads).routes(), page="arena.html", key=key, lifespan=lifespan)


@dataclass(frozen=True, slots=True)
class ArenaApi:
    """The handlers of all calls."""

    battles: Battles
    threads: Executor

    def routes(self) -> list[Route]:
        """All calls by their paths."""
        return [
            Route("/arena/state", self.state),
            Route("/arena/table", self.table),
            Route("/arena/battles", self.begin, methods=["POST"]),
            Route("/arena/battles/{id}/ask", self.ask, methods=["POST"]),
            Route("/arena/battles/{id}/vote", self.vote, methods=["POST"]),
            Route("/health", self.health),
        ]

    async def state(self, request: Request) -> Response:
        """Numbers of models and votes, and the progress through the question set."""
        known, done = self.battles.questions, self.battles.done
        following = next((question for question in known.values() if question.id not in done), None)
        shown = {"id": following.id, "category": following.category, "text": following.text} if following else None
        questions = {"num": len(known), "next": shown, "num_done": len(done)} if known else None
        numbers = {"num_models": len(self.battles.models), "num_votes": len(self.battles.votes.rows)}
        return JSONResponse(numbers | {"questions": questions})

    async def table(self, request: Request) -> Response:
        """Ratings from all votes in the file."""
        found = await run_in_threadpool(make_table, list(self.battles.votes.rows), list(self.battles.models))
        return JSONResponse(found)

    async def begin(self, request: Request) -> Response:
        """Begin a battle."""
        wanted = await read_model(request, BeginRequest)
        return JSONResponse({"battle": self.battles.begin(wanted.question_id).id})

    async def ask(self, request: Request) -> Response:
        """Stream both answers, interleaved as they arrive."""
        wanted = await read_model(request, AskRequest)
        battle = self.battles.find(request.path_params["id"])
        self.battles.ask(battle, wanted.text)
        return EventStream(self._answer(battle))

    async def vote(self, request: Request) -> Response:
        """Record a vote and reveal the models."""
        wanted = await read_model(request, VoteRequest)
        battle = self.battles.find(request.path_params["id"])
        return JSONResponse(await run_in_threadpool(self.battles.vote, battle, wanted.vote))

    async def health(self, request: Request) -> Response:
        """Report that the arena runs."""
        return JSONResponse({"status": "ok"})

    async def _answer(self, battle: OpenBattle) -> AsyncGenerator[bytes]:
        events: Events = asyncio.Queue()
        tasks = [asyncio.create_task(self._answer_side(battle, side, events)) for side in SIDES]
        num_open = len(tasks)
        try:
            while num_open:
                event = await events.get()
                if event is None:
                    num_open -= 1
                else:
                    yield as_event(event)
            yield DONE
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            battle.is_answering = False

    async def _answer_side(self, battle: OpenBattle, name: str, events: Events) -> None:
        """Put one side's answer into the queue; text generated before a cancellation is kept as its answer."""
        side = battle.sides[name]
        started, text = perf_counter(), ""
        stream = partial(side.model.stream, list(side.turns), self.battles.sampling)
        pieces = iterate_in_thread(stream, threads=self.threads)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    text += piece.text
                    _put(piece, name, events)
        except BaihuaError as error:
            # The model's own message could reveal which model it is.
            logger.error("an answer failed: %s", error)
            message = "the conversation is too long" if isinstance(error, TooLongError) else "this model failed"
            events.put_nowait({"side": name, "error": message})
        finally:
            side.seconds += perf_counter() - started
            if text.strip():
                side.turns.append(Message("assistant", text.strip()))
            events.put_nowait(None)


def _put(piece: Piece, side: str, events: Events) -> None:
    if piece.text:
        events.put_nowait({"side": side, "delta": piece.text})
    if piece.finish_reason:
        events.put_nowait({"side": side, "finish_reason": piece.finish_reason})
