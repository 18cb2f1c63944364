"""Who may ask: checked before anything of a request is read."""

import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from baihua.serve.web.problem import Problem, to_response

# What a browser loads before it can ask for the key, and what a supervisor looks at. Nothing of it is secret.
PUBLIC = ("/", "/health")
PUBLIC_PREFIX = "/pages/"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a server asks of its clients."""

    key: str | None = None
    """Bearer key that every call needs; without one the server listens on the loopback only."""
    max_body_bytes: int = 1024 * 1024
    max_depth: int = 32
    """How deep the JSON of a request may nest."""


def is_loopback(host: str) -> bool:
    """Whether an address to listen at can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """An ASGI application before another one: key, host and size of requests, and the headers of every answer.

    Without a key only requests that name this machine are let in, because a page from elsewhere can have its own name
    point here (DNS rebinding) and then read everything.
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        # Compared as hashes, so that neither the time nor the length of a key tells anything.
        self._key_hash = sha256(rules.key.encode()).digest() if rules.key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sender = _with_headers(send)
        problem = self._find_problem(scope["path"], Headers(scope=scope))
        if problem is not None:
            await to_response(problem)(scope, receive, sender)
            return
        await self._app(scope, receive, sender)

    def _find_problem(self, path: str, headers: Headers) -> Problem | None:
        if self._key_hash is None and not _names_loopback(headers.get("host", "")):
            return Problem(400, "this server answers requests to localhost only", code="wrong_host")
        if self._key_hash is not None and not _is_public(path) and not self._knows_key(headers):
            return Problem(401, "a valid API key is needed: Authorization: Bearer KEY", code="invalid_api_key")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length[:20]) > self._rules.max_body_bytes:
            return too_large(self._rules.max_body_bytes)
        return None

    def _knows_key(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = sha256(key.strip().encode("utf-8", errors="replace")).digest()
        return hmac.compare_digest(given, self._key_hash or b"") and scheme.lower() == "bearer"


def too_large(max_bytes: int) -> Problem:
    """The problem of a body that is too long."""
    return Problem(413, f"the request is larger than {max_bytes:,} bytes", code="request_too_large")


def _is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_PREFIX)


def _names_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name in LOOPBACK_NAMES


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            own: Iterable[tuple[bytes, bytes]] = message.get("headers", [])
            message = {**message, "headers": [*own, *HEADERS]}
        await send(message)

    return sender
