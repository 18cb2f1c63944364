"""Starlette applications with access control and our error responses.

API key, host name and size of a request are checked before its body is read.
"""

import hmac
import ipaddress
from collections.abc import Sequence
from hashlib import sha256

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from baihua.core.errors import BaihuaError
from baihua.serve.web.errors import HttpError, on_error

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


def make_app(
    routes: Sequence[BaseRoute],
    *,
    key: str | None,
    lifespan: Lifespan[Starlette] | None = None,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """An ASGI application; `middleware` sees requests before the access control does."""
    app = Starlette(
        routes=list(routes),
        middleware=[*middleware, Middleware(AccessGuard, key=key)],
        exception_handlers=dict.fromkeys((HTTPException, BaihuaError, Exception), on_error),
        lifespan=lifespan,
    )
    # By default Starlette redirects /v1/models/ to /v1/models; here a wrong path is a 404.
    app.router.redirect_slashes = False
    return app


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
        host = headers.get("host", "")
        name, _, port = host.rpartition(":")
        if self._key_hash is None and (name if port.isdigit() else host) not in LOOPBACK_NAMES:
            return HttpError(400, "this server only answers requests to localhost", code="wrong_host")
        is_public = path in PUBLIC or path.startswith(PUBLIC_PREFIX)
        if self._key_hash is not None and not is_public and not _has_key(headers, self._key_hash):
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
