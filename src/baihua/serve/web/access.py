"""Access control: API key, host name and size of a request, checked before its body is read."""

import hmac
import ipaddress
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from baihua.serve.web.errors import HttpError

# Paths that need no key: what the browser loads before it can ask for one, and the health check. None is secret.
PUBLIC = ("/", "/health")
PUBLIC_PREFIX = "/pages/"
MAX_BODY_BYTES = 1024 * 1024
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class AccessGuard:
    """ASGI middleware that checks every request and adds security headers to every response.

    `key` is the bearer key that clients must send. Without one the Host header must name this machine; otherwise a page
    of another origin could point its own host name here (DNS rebinding) and read everything.
    """

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        # Comparing hashes leaks neither the key's length nor, through timing, its characters.
        self._key_hash = sha256(key.encode()).digest() if key else None

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
        if length.isdigit() and int(length[:20]) > MAX_BODY_BYTES:
            return too_large()
        return None


def too_large() -> HttpError:
    """The error for a body over the size limit."""
    return HttpError(413, f"the request body is larger than {MAX_BODY_BYTES:,} bytes", code="request_too_large")


def _has_key(headers: Headers, key_hash: bytes) -> bool:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    sent = sha256(key.strip().encode("utf-8", errors="replace")).digest()
    return hmac.compare_digest(sent, key_hash) and scheme.lower() == "bearer"


def _is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_PREFIX)


def _names_loopback(host: str) -> bool:
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() else host) in LOOPBACK_NAMES
