"""Access rules: API key, host name and size of a request, checked before its body is read."""

import hmac
import ipaddress
from dataclasses import dataclass
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from baihua.serve.web.errors import HttpError

# Paths that need no key: what the browser loads before it can ask for one, and the health check. None is secret.
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
    """Requirements that every request must meet."""

    key: str | None = None
    """Bearer key required from clients; without one only requests to localhost are answered."""
    max_body_bytes: int = 1024 * 1024
    max_depth: int = 32
    """Deepest nesting of a JSON body."""


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class AccessGuard:
    """ASGI middleware that applies the rules and adds security headers to every response.

    Without a key the Host header must name this machine. Otherwise a page of another origin could point its own host
    name here (DNS rebinding) and read everything.
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        # Comparing hashes leaks neither the key's length nor, through timing, its characters.
        self._key_hash = sha256(rules.key.encode()).digest() if rules.key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        error = self._find_error(scope["path"], Headers(scope=scope))
        app = error.to_response() if error else self._app
        await app(scope, receive, send_with_headers)

    def _find_error(self, path: str, headers: Headers) -> HttpError | None:
        if self._key_hash is None and not _names_loopback(headers.get("host", "")):
            return HttpError(400, "this server only answers requests to localhost", code="wrong_host")
        if self._key_hash is not None and not _is_public(path) and not _has_key(headers, self._key_hash):
            return HttpError(401, "a valid API key is required: Authorization: Bearer KEY", code="invalid_api_key")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length[:20]) > self._rules.max_body_bytes:
            return too_large(self._rules.max_body_bytes)
        return None


def too_large(max_bytes: int) -> HttpError:
    """The error for a body over the size limit."""
    return HttpError(413, f"the request body is larger than {max_bytes:,} bytes", code="request_too_large")


def _has_key(headers: Headers, key_hash: bytes) -> bool:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    sent = sha256(key.strip().encode("utf-8", errors="replace")).digest()
    return hmac.compare_digest(sent, key_hash) and scheme.lower() == "bearer"


def _is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_PREFIX)


def _names_loopback(host: str) -> bool:
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() else host) in LOOPBACK_NAMES
