"""The application that serves the API and the chat page."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from time import perf_counter

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from baihua.chat.types import Guidance, Piece, Sampling
from baihua.core.errors import BaihuaError
from baihua.serve.api.engine import Engine, ServedModel, chat_ids, check_fits, text_ids
from baihua.serve.api.metrics import CONTENT_TYPE, Metrics, RequestCounter
from baihua.serve.api.openapi import describe
from baihua.serve.api.request_queue import RequestQueue
from baihua.serve.api.requests import ChatRequest, CompletionRequest, EmbeddingRequest, GenerationRequest
from baihua.serve.api.responses import Kind, ResponseBuilder, embeddings_json
from baihua.serve.web.app import make_app
from baihua.serve.web.errors import HttpError, as_http_error
from baihua.serve.web.request_body import read_model
from baihua.serve.web.streaming import DONE, EventStream, as_event, cancel_on_disconnect, run_in_thread


@dataclass(frozen=True, slots=True)
class Api:
    """The handlers of all calls."""

    models: Mapping[str, ServedModel]
    threads: Executor
    """One thread for each answer being generated."""
    max_seconds: float
    """Longest time for an answer, queueing included."""
    metrics: Metrics

    def routes(self) -> list[Route]:
        """All calls by their paths."""
        return [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/embeddings", self.embed, methods=["POST"]),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{name:path}", self.show_model),
            Route("/health", self.health),
            Route("/metrics", self.show_metrics),
            Route("/openapi.json", self.openapi),
        ]

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        wanted = await read_model(request, ChatRequest)
        served = self._find(wanted.model)
        messages = [message.as_message() for message in wanted.messages]
        # Rendering and tokenizing a long text take a few milliseconds, which other streams must not wait for.
        ids = await run_in_threadpool(chat_ids, messages, served.engine)
        return await self._answer(request, wanted, served, ids, kind="chat")

    async def complete(self, request: Request) -> Response:
        """Continue a text, or token ids, which may include control tokens."""
        wanted = await read_model(request, CompletionRequest)
        served = self._find(wanted.model)
        prompt = wanted.prompt
        ids = await run_in_threadpool(text_ids, prompt, served.engine) if isinstance(prompt, str) else prompt
        if not ids:
            raise HttpError(400, "the prompt is empty", param="prompt")
        return await self._answer(request, wanted, served, ids, kind="completion")

    async def embed(self, request: Request) -> Response:
        """Embed texts."""
        wanted = await read_model(request, EmbeddingRequest)
        work = _embed_all(self._find(wanted.model), wanted.texts())
        vectors, num_tokens = await cancel_on_disconnect(work, request.receive)
        is_base64 = wanted.encoding_format == "base64"
        return JSONResponse(embeddings_json(wanted.model, vectors, num_tokens=num_tokens, is_base64=is_base64))

    async def list_models(self, request: Request) -> Response:
        """List the models."""
        return JSONResponse({"object": "list", "data": [_model_json(one) for one in self.models.values()]})

    async def show_model(self, request: Request) -> Response:
        """Describe one model."""
        return JSONResponse(_model_json(self._find(request.path_params["name"])))

    async def health(self, request: Request) -> Response:
        """Report whether new requests are accepted."""
        is_stopping = any(served.queue.is_closed for served in self.models.values())
        return JSONResponse({"status": "stopping" if is_stopping else "ok"}, status_code=503 if is_stopping else 200)

    async def show_metrics(self, request: Request) -> Response:
        """Metrics for Prometheus."""
        return Response(self.metrics.to_text(), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI description."""
        return JSONResponse(describe())

    def close_queues(self) -> None:
        """Reject waiting and new requests; running answers go on."""
        for served in self.models.values():
            served.queue.close()

    def _find(self, name: str) -> ServedModel:
        if name in self.models:
            return self.models[name]
        near = get_close_matches(name, self.models, n=1) or list(self.models)
        message = f"unknown model {name!r}; did you mean {near[0]!r}?"
        raise HttpError(404, message, code="model_not_found", param="model")

    async def _answer(
        self, request: Request, wanted: GenerationRequest, served: ServedModel, ids: list[int], *, kind: Kind
    ) -> Response:
        sampling = wanted.sampling(room=check_fits(ids, served.engine))
        guidance = wanted.guidance(served.adapter)
        pieces = self._generate(served, ids, sampling, guidance)
        has_usage = wanted.stream_options is not None and wanted.stream_options.include_usage
        builder = ResponseBuilder(kind=kind, model=wanted.model, num_top=wanted.num_top_logprobs, has_usage=has_usage)
        if not wanted.stream:
            return JSONResponse(await cancel_on_disconnect(_collect(pieces, builder), request.receive))
        # Wait for the first piece before sending a status, so that an error until then gets its own status.
        first = await cancel_on_disconnect(anext(pieces), request.receive)
        return EventStream(_events(first, pieces, builder))

    async def _generate(
        self, served: ServedModel, ids: Sequence[int], sampling: Sampling, guidance: Guidance
    ) -> AsyncGenerator[Piece]:
        """Wait for a slot and yield the answer; closing this generator cancels the answer and frees its slot."""
        started = perf_counter()
        has_text = False
        answer = run_in_thread(partial(served.engine.run, ids, sampling, guidance), threads=self.threads)
        async with served.queue.slot(), aclosing(answer) as pieces:
            while (piece := await _next(pieces, self.max_seconds - (perf_counter() - started))) is not None:
                if piece.text and not has_text:
                    has_text = True
                    self.metrics.first_token.labels(served.name).observe(perf_counter() - started)
                if piece.usage:
                    self.metrics.tokens.labels(served.name, "prompt").inc(piece.usage.num_prompt_tokens)
                    self.metrics.tokens.labels(served.name, "answer").inc(piece.usage.num_answer_tokens)
                    self.metrics.answer.labels(served.name).observe(perf_counter() - started)
                yield piece


def serve(
    engines: Mapping[str, Engine], *, key: str | None, max_waiting: int = 64, max_answer_seconds: float = 600.0
) -> tuple[Starlette, Api]:
    """The application and its API, whose queues can be closed; the application's shutdown closes the engines.

    At most `max_waiting` requests wait for each engine; `max_answer_seconds` of an answer include that wait.
    """
    created = int(time.time())
    queues = {name: RequestQueue(engine.num_slots, max_waiting=max_waiting) for name, engine in engines.items()}
    # An adapter of a model is served as MODEL:ADAPTER.
    models = {
        served: ServedModel(served, engine, queues[name], created, adapter)
        for name, engine in engines.items()
        for served, adapter in [(name, None), *((f"{name}:{adapter}", adapter) for adapter in engine.adapters)]
    }
    metrics = Metrics(queues)
    threads = ThreadPoolExecutor(sum(engine.num_slots for engine in engines.values()) + 1, "answer")
    api = Api(models, threads, max_answer_seconds, metrics)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        threads.shutdown(wait=True)
        for engine in engines.values():
            engine.close()

    counter = Middleware(RequestCounter, requests=metrics.requests)
    return make_app(api.routes(), page="chat.html", key=key, lifespan=lifespan, middleware=[counter]), api


async def _next(pieces: AsyncGenerator[Piece], seconds: float) -> Piece | None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await anext(pieces, None)
    except TimeoutError:
        raise HttpError(503, "the answer took longer than this server allows (--max-seconds)", code="timeout") from None


async def _embed_all(served: ServedModel, texts: Sequence[str | list[int]]) -> tuple[list[np.ndarray], int]:
    """The embeddings of texts or token ids, one after another, and their number of tokens."""
    vectors: list[np.ndarray] = []
    num_tokens = 0
    for text in texts:
        ids = text_ids(text, served.engine) if isinstance(text, str) else text
        num_tokens += len(ids)
        async with served.queue.slot():
            vectors.append(await run_in_threadpool(served.engine.embed, ids))
    return vectors, num_tokens


async def _collect(pieces: AsyncGenerator[Piece], builder: ResponseBuilder) -> dict[str, object]:
    text, likelihoods = "", []
    async with aclosing(pieces):
        async for piece in pieces:
            text += piece.text
            likelihoods += piece.likelihoods
            if piece.finish_reason and piece.usage:
                return builder.whole(text, piece.finish_reason, piece.usage, likelihoods)
    raise HttpError(500, "the engine ended the answer before it was complete", code="engine_error")


async def _events(first: Piece, pieces: AsyncGenerator[Piece], builder: ResponseBuilder) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(pieces):
            if builder.kind == "chat":
                yield builder.role_event()
            yield builder.event(first)
            async for piece in pieces:
                yield builder.event(piece)
    except (HttpError, BaihuaError) as error:
        yield as_event(as_http_error(error).as_json())
    else:
        yield DONE


def _model_json(served: ServedModel) -> dict[str, object]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "baihua",
        "context_length": served.engine.num_ctx,
    }
