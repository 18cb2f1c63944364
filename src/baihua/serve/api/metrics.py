"""Prometheus metrics of a server."""

from collections.abc import Mapping

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
        self.requests = Counter(
            "baihua_requests", "Requests by path and status.", ("path", "status"), registry=registry
        )
        self.tokens = Counter("baihua_tokens", "Tokens by model and kind.", ("model", "kind"), registry=registry)
        self.first_token = Histogram(
            "baihua_first_token_seconds",
            "Time from a request to its first text, queueing included.",
            ("model",),
            buckets=SECONDS,
            registry=registry,
        )
        self.answer = Histogram(
            "baihua_answer_seconds",
            "Time from a request to the end of its answer, queueing included.",
            ("model",),
            buckets=SECONDS,
            registry=registry,
        )
        running = Gauge("baihua_running", "Answers being generated.", ("engine",), registry=registry)
        waiting = Gauge("baihua_waiting", "Requests waiting for a slot.", ("engine",), registry=registry)
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
