"""The calls of the API."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from baihua.chat.types import Guidance, Likelihood, Piece
from baihua.core.errors import BaihuaError
from baihua.serve.api.answer import Workshop, check_fits, prompt_ids, write_answer
from baihua.serve.api.engine import Served
from baihua.serve.api.metrics import CONTENT_TYPE
from baihua.serve.api.openapi import describe
from baihua.serve.api.replies import Kind, Reply, event, vectors
from baihua.serve.api.requests import ChatRequest, CompletionRequest, EmbeddingRequest, Generation
from baihua.serve.web.body import read_model
from baihua.serve.web.problem import Problem, explain
from baihua.serve.web.stream import EventStream, unless_gone

DONE = b"data: [DONE]\n\n"
# A comment of the event stream: the client sees that a long prompt is still being read.
READING = b": reading\n\n"


@dataclass(frozen=True, slots=True)
class Api:
    """The models that are served, and what their answers share."""

    models: Mapping[str, Served]
    workshop: Workshop

    def routes(self) -> list[Route]:
        """All calls."""
        return [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/embeddings", self.embed, methods=["POST"]),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{name:path}", self.show_model),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
        ]

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        wanted = await read_model(request, ChatRequest)
        served = self._find(wanted.model)
        messages = [message.as_message() for message in wanted.messages]
        # Rendering and tokenizing take a few milliseconds for a long text; others' streams must not wait for them.
        ids = await run_in_threadpool(prompt_ids, messages, served)
        return await self._answer(request, wanted, served, ids, kind="chat")

    async def complete(self, request: Request) -> Response:
        """Continue a text; ids are taken as they are, control tokens included, because they are no text."""
        wanted = await read_model(request, CompletionRequest)
        served = self._find(wanted.model)
        if isinstance(wanted.prompt, str):
            begin = [] if served.tokenizer.bos_id is None else [served.tokenizer.bos_id]
            ids = begin + await run_in_threadpool(served.tokenizer.encode, wanted.prompt)
        else:
            ids = list(wanted.prompt)
        if not ids:
            raise Problem(400, "the prompt is empty", param="prompt")
        return await self._answer(request, wanted, served, ids, kind="completion")

    async def embed(self, request: Request) -> Response:
        """Vectors of texts."""
        wanted = await read_model(request, EmbeddingRequest)
        served = self._find(wanted.model)
        found, num_tokens = await unless_gone(_vectors(served, wanted.texts()), request.receive)
        is_base64 = wanted.encoding_format == "base64"
        return JSONResponse(vectors(wanted.model, found, num_tokens=num_tokens, is_base64=is_base64))

    async def list_models(self, request: Request) -> Response:
        """All names."""
        return JSONResponse({"object": "list", "data": [_describe(one) for one in self.models.values()]})

    async def show_model(self, request: Request) -> Response:
        """One of them."""
        return JSONResponse(_describe(self._find(request.path_params["name"])))

    async def health(self, request: Request) -> Response:
        """Whether new requests are let in."""
        is_closed = any(served.gate.is_closed for served in self.models.values())
        status = "stopping" if is_closed else "ok"
        return JSONResponse({"status": status}, status_code=503 if is_closed else 200)

    async def metrics(self, request: Request) -> Response:
        """Counts for Prometheus."""
        return Response(self.workshop.metrics.to_text(), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        """The description of all this."""
        return JSONResponse(describe())

    def close_gates(self) -> None:
        """Let nobody in any more."""
        for served in self.models.values():
            served.gate.close()

    def _find(self, name: str) -> Served:
        if name in self.models:
            return self.models[name]
        near = get_close_matches(name, self.models, n=1) or list(self.models)
        raise Problem(404, f"no model {name!r}; did you mean {near[0]!r}?", code="model_not_found", param="model")

    async def _answer(
        self, request: Request, wanted: Generation, served: Served, ids: list[int], *, kind: Kind
    ) -> Response:
        sampling = wanted.sampling(room=check_fits(ids, served))
        guidance = wanted.guidance(served.adapter)
        pieces = write_answer(served, ids, sampling, guidance, workshop=self.workshop)
        reply = Reply(kind, wanted.model)
        if not wanted.stream:
            return JSONResponse(await unless_gone(_collect(pieces, reply, guidance), request.receive))
        # The first piece comes before the status: until then an error can have a status of its own.
        first = await unless_gone(anext(pieces), request.receive)
        tells_usage = wanted.stream_options is not None and wanted.stream_options.include_usage
        return EventStream(_events(first, pieces, reply, guidance, tells_usage=tells_usage))


async def _vectors(served: Served, texts: Sequence[str | list[int]]) -> tuple[list[np.ndarray], int]:
    """Vectors of texts or ids, one after another, and how many tokens they have."""
    begin = [] if served.tokenizer.bos_id is None else [served.tokenizer.bos_id]
    found: list[np.ndarray] = []
    num_tokens = 0
    for text in texts:
        ids = begin + served.tokenizer.encode(text) if isinstance(text, str) else text
        num_tokens += len(ids)
        async with served.gate.enter():
            found.append(await run_in_threadpool(served.engine.embed, ids))
    return found, num_tokens


async def _collect(pieces: AsyncGenerator[Piece], reply: Reply, guidance: Guidance) -> dict[str, object]:
    text, likelihoods = "", []
    async with aclosing(pieces):
        async for piece in pieces:
            text += piece.text
            likelihoods += _told(piece, guidance)
            if piece.finish_reason and piece.usage:
                return reply.whole(text, piece.finish_reason, piece.usage, likelihoods)
    raise Problem(500, "the answer broke off", code="engine_error")


async def _events(
    first: Piece, pieces: AsyncGenerator[Piece], reply: Reply, guidance: Guidance, *, tells_usage: bool
) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(_parts(first, pieces, reply, guidance, tells_usage=tells_usage)) as parts:
            async for part in parts:
                yield part
    except Problem as problem:
        yield event(problem.as_json())
    except BaihuaError as error:
        yield event(explain(error).as_json())
    else:
        yield DONE


async def _parts(
    first: Piece, pieces: AsyncGenerator[Piece], reply: Reply, guidance: Guidance, *, tells_usage: bool
) -> AsyncGenerator[bytes]:
    async with aclosing(pieces):
        if reply.kind == "chat":
            yield event(reply.first())
        yield _event(first, reply, guidance)
        async for piece in pieces:
            yield _event(piece, reply, guidance)
            if piece.usage and tells_usage:
                yield event(reply.usage(piece.usage))


def _event(piece: Piece, reply: Reply, guidance: Guidance) -> bytes:
    likelihoods = _told(piece, guidance)
    if not piece.text and not piece.finish_reason and not likelihoods:
        return READING
    return event(reply.part(piece.text, piece.finish_reason, likelihoods))


def _told(piece: Piece, guidance: Guidance) -> list[Likelihood]:
    """Engines may tell more likely tokens than were asked for."""
    if guidance.num_top_logprobs is None:
        return []
    return [replace(one, top=one.top[: guidance.num_top_logprobs]) for one in piece.likelihoods]


def _describe(served: Served) -> dict[str, object]:
    about: dict[str, object] = {"id": served.name, "object": "model", "created": served.created, "owned_by": "baihua"}
    return about | {"context_length": served.engine.num_ctx}
