"""From a request to pieces of an answer: prompt, place in the queue, time limit."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

from baihua.chat.render import encode, render
from baihua.chat.types import Guidance, Message, Piece, Sampling
from baihua.core.errors import InputError, TooLongError
from baihua.serve.api.engine import Served
from baihua.serve.api.metrics import Metrics
from baihua.serve.web.problem import Problem
from baihua.serve.web.pump import receive_all


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all answers of a server share."""

    threads: Executor
    """One thread for each answer that is being written."""
    max_seconds: float
    """Longest time for an answer, its wait included."""
    metrics: Metrics


def prompt_ids(messages: Sequence[Message], served: Served) -> list[int]:
    """Token ids of a conversation up to where its answer begins; texts of clients stay texts.

    Many templates trim texts, and the renderer refuses those that change what they are given: then they get what is
    left of it without blanks around.
    """
    if messages[-1].role == "assistant":
        raise Problem(400, "the last message is the assistant's own: there is nothing to answer", param="messages")
    try:
        spans = render(messages, served.template, for_answer=True)
    except InputError:
        stripped = [replace(message, content=message.content.strip()) for message in messages]
        if stripped == list(messages):
            raise
        spans = render(stripped, served.template, for_answer=True)
    return encode(spans, served.tokenizer).ids


def check_fits(ids: Sequence[int], served: Served) -> int:
    """Room that is left for an answer, in tokens; a TooLongError where there is none."""
    room = served.engine.num_ctx - len(ids)
    if room <= 0:
        raise TooLongError(
            f"the prompt has {len(ids):,} tokens, the context holds {served.engine.num_ctx:,} with the answer",
            fix="shorten the messages",
        )
    return room


async def write_answer(
    served: Served, ids: Sequence[int], sampling: Sampling, guidance: Guidance, *, workshop: Workshop
) -> AsyncGenerator[Piece]:
    """Yield an answer when its turn has come; closing this cancels it and frees its place."""
    started = perf_counter()
    has_text = False
    reading = receive_all(partial(served.engine.run, ids, sampling, guidance), threads=workshop.threads)
    async with served.gate.enter(), aclosing(reading) as pieces:
        while (piece := await _next(pieces, workshop.max_seconds - (perf_counter() - started))) is not None:
            if piece.text and not has_text:
                has_text = True
                workshop.metrics.first_token.labels(served.name).observe(perf_counter() - started)
            if piece.usage:
                _count(piece, served, workshop.metrics, seconds=perf_counter() - started)
            yield piece


async def _next(pieces: AsyncGenerator[Piece], seconds: float) -> Piece | None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await anext(pieces)
    except StopAsyncIteration:
        return None
    except TimeoutError:
        raise Problem(503, "the answer took longer than this server allows", code="timeout") from None


def _count(piece: Piece, served: Served, metrics: Metrics, *, seconds: float) -> None:
    assert piece.usage is not None, "asked for its usage"
    metrics.tokens.labels(served.name, "prompt").inc(piece.usage.num_prompt_tokens)
    metrics.tokens.labels(served.name, "answer").inc(piece.usage.num_answer_tokens)
    metrics.answer.labels(served.name).observe(seconds)
