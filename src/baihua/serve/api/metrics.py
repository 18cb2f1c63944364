"""Prometheus metrics of a server."""

from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from baihua.serve.api.request_queue import RequestQueue

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# All other paths are counted together, since clients choose them freely.
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/health", "/metrics", "/")


class Metrics:
    """The metrics of one server, in its own registry."""

    def __init__(self, queues: Mapping[str, RequestQueue]) -> None:
        self._registry = registry = CollectorRegistry()
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, labelnames=("engine",), registry=registry)
        histogram = partial(Histogram, labelnames=("model",), buckets=SECONDS, registry=registry)
        self.requests = counter("baihua_requests", "Requests by path and status.", ("path", "status"))
        self.tokens = counter("baihua_tokens", "Tokens by model and kind.", ("model", "kind"))
        self.first_token = histogram("baihua_first_token_seconds", "From a request to its first text, with queueing.")
        self.answer = histogram("baihua_answer_seconds", "From a request to the end of its answer, with queueing.")
        running = gauge("baihua_running", "Answers being generated.")
        waiting = gauge("baihua_waiting", "Requests waiting for a slot.")
        for name, queue in queues.items():
            running.labels(name).set_function(lambda queue=queue: queue.num_running)
            waiting.labels(name).set_function(lambda queue=queue: queue.num_waiting)

    def to_text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class RequestCounter:
    """ASGI middleware that counts responses by path and status."""

    def __init__(self, app: ASGIApp, requests: Counter) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its response."""
        path = scope["path"] if scope.get("path") in PATHS else "other"

        async def count_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.labels(path, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, count_and_send)
