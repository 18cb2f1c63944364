"""The server of the API and the chat page."""

import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.middleware import Middleware

from baihua.chat.render import Template
from baihua.chat.types import TextTokenizer
from baihua.serve.api.answer import Workshop
from baihua.serve.api.engine import Engine, Served, names_of
from baihua.serve.api.gate import Gate
from baihua.serve.api.metrics import Counted, Metrics
from baihua.serve.api.routes import Api
from baihua.serve.web.app import make_app
from baihua.serve.web.guard import Rules
from baihua.serve.web.pages import page_routes


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine with what turns conversations into its tokens."""

    engine: Engine
    tokenizer: TextTokenizer
    template: Template


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one server takes on."""

    max_waiting: int = 64
    """Requests that wait for each engine."""
    max_wait_seconds: float = 60.0
    max_answer_seconds: float = 600.0
    """For an answer, its wait included."""


def serve(opened: Mapping[str, Opened], *, rules: Rules, limits: Limits) -> tuple[Starlette, Api]:
    """The application, and the API in it, whose gates can be closed. Its end closes the engines."""
    created = int(time.time())
    gates = {name: _gate(one.engine, limits) for name, one in opened.items()}
    metrics = Metrics(gates)
    threads = ThreadPoolExecutor(sum(one.engine.num_slots for one in opened.values()) + 1, "answer")
    models = {
        name: Served(name, one.engine, one.tokenizer, one.template, gates[engine_name], created, adapter)
        for engine_name, one in opened.items()
        for name, adapter in names_of(engine_name, one.engine).items()
    }
    api = Api(models, Workshop(threads, limits.max_answer_seconds, metrics))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        threads.shutdown(wait=True)
        for one in opened.values():
            one.engine.close()

    app = make_app([*api.routes(), *page_routes("chat.html")], rules=rules, lifespan=lifespan)
    app.user_middleware.insert(0, Middleware(Counted, requests=metrics.requests))
    return app, api


def _gate(engine: Engine, limits: Limits) -> Gate:
    return Gate(num_slots=engine.num_slots, max_waiting=limits.max_waiting, max_wait_seconds=limits.max_wait_seconds)
