"""The application that serves the API and the chat page."""

import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.middleware import Middleware

from baihua.serve.api.answer import Runtime
from baihua.serve.api.engine import Engine, ServedModel
from baihua.serve.api.metrics import Metrics, RequestCounter
from baihua.serve.api.request_queue import RequestQueue
from baihua.serve.api.routes import Api
from baihua.serve.web.app import make_app
from baihua.serve.web.pages import page_routes


@dataclass(frozen=True, slots=True)
class Limits:
    """How much work one server accepts."""

    max_waiting: int = 64
    """Requests that wait for each engine."""
    max_wait_seconds: float = 60.0
    max_answer_seconds: float = 600.0
    """For an answer, queueing included."""


def serve(engines: Mapping[str, Engine], *, key: str | None, limits: Limits) -> tuple[Starlette, Api]:
    """The application and its API, whose queues can be closed; the application's shutdown closes the engines."""
    created = int(time.time())
    queues = {
        name: RequestQueue(
            num_slots=engine.num_slots, max_waiting=limits.max_waiting, max_wait_seconds=limits.max_wait_seconds
        )
        for name, engine in engines.items()
    }
    # An adapter of a model is served as MODEL:ADAPTER.
    models = {
        served: ServedModel(served, engine, queues[name], created, adapter)
        for name, engine in engines.items()
        for served, adapter in [(name, None), *((f"{name}:{adapter}", adapter) for adapter in engine.adapters)]
    }
    metrics = Metrics(queues)
    threads = ThreadPoolExecutor(sum(engine.num_slots for engine in engines.values()) + 1, "answer")
    api = Api(models, Runtime(threads, limits.max_answer_seconds, metrics))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        threads.shutdown(wait=True)
        for engine in engines.values():
            engine.close()

    routes = [*api.routes(), *page_routes("chat.html")]
    counter = Middleware(RequestCounter, requests=metrics.requests)
    return make_app(routes, key=key, lifespan=lifespan, middleware=[counter]), api
