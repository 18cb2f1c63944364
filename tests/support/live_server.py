"""A server of ours on a real port, in a thread of the test's process."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from baihua.serve.api.app import Api, serve
from baihua.serve.api.engine import Engine
from baihua.serve.web.server import listen


@contextmanager
def live(app: Starlette) -> Iterator[str]:
    """Serve an application; its address."""
    at = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on", ws="none"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[at])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{at.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def served(
    engines: Mapping[str, Engine], *, key: str | None = None, max_waiting: int = 64, max_answer_seconds: float = 600.0
) -> Iterator[str]:
    """Serve models; the address."""
    with live(serve(engines, key=key, max_waiting=max_waiting, max_answer_seconds=max_answer_seconds)[0]) as url:
        yield url


def make(engines: Mapping[str, Engine], *, key: str | None = None) -> tuple[Starlette, Api]:
    """The application without a port."""
    return serve(engines, key=key)
