"""What a server counts, for Prometheus."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from baihua.serve.api.gate import Gate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# Paths that are counted by name; what else is asked for could be anything.
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/health", "/metrics", "/")


class Metrics:
    """Counts of one server, in a registry of its own."""

    def __init__(self, gates: Mapping[str, Gate]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "baihua_requests", "Requests by path and status.", ("path", "status"), registry=self._registry
        )
        self.tokens = Counter("baihua_tokens", "Tokens by model and kind.", ("model", "kind"), registry=self._registry)
        self.first_token = Histogram(
            "baihua_first_token_seconds",
            "From a request, its wait included, to the first text.",
            ("model",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.answer = Histogram(
            "baihua_answer_seconds",
            "From a request, its wait included, to the end of its answer.",
            ("model",),
            buckets=SECONDS,
            registry=self._registry,
        )
        running = Gauge("baihua_running", "Answers being written.", ("engine",), registry=self._registry)
        waiting = Gauge("baihua_waiting", "Requests that wait for a place.", ("engine",), registry=self._registry)
        for name, gate in gates.items():
            running.labels(name).set_function(_reader(gate, "running"))
            waiting.labels(name).set_function(_reader(gate, "waiting"))

    def to_text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self._registry)


class Counted:
    """An ASGI application around another one: counts responses."""

    def __init__(self, app: ASGIApp, requests: Counter) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count the status."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in PATHS else "other"

        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.labels(path, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, sender)


def _reader(gate: Gate, what: str) -> Callable[[], float]:
    return (lambda: float(gate.num_running)) if what == "running" else (lambda: float(gate.num_waiting))
