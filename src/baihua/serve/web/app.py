"""Starlette applications with a page, access control and our error responses.

API key, host name and size of a request are checked before its body is read. Pages are static, and served with a
policy that forbids them any request to other origins.
"""

import hmac
import ipaddress
import mimetypes
from collections.abc import Sequence
from hashlib import sha256
from importlib import resources
from pathlib import PurePosixPath

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
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

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# Not left to `mimetypes`, which on Windows reads the registry.
TYPES = {".js": "text/javascript", ".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml"}
FOLDER = resources.files("baihua.serve") / "pages"


def make_app(
    routes: Sequence[BaseRoute],
    *,
    page: str,
    key: str | None,
    lifespan: Lifespan[Starlette] | None = None,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """An ASGI application with a page at `/` and the files it loads from `/pages/`.

    `middleware` sees requests before the access control does.
    """

    async def show(request: Request) -> Response:
        return read_page(request.path_params.get("name", page))

    app = Starlette(
        routes=[*routes, Route("/", show), Route("/pages/{name:path}", show)],
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


def read_page(name: str) -> Response:
    """A file of the folder `pages`; a 404 for any path outside it."""
    path = PurePosixPath(name)
    # Backslashes, colons and NUL have special meanings on Windows; none of our file names has them.
    is_outside = path.is_absolute() or ".." in path.parts or any(char in name for char in "\\:\0")
    file = FOLDER.joinpath(*path.parts)
    if is_outside or not path.parts or not file.is_file():
        raise HttpError(404, "page not found", code="not_found")
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    # Not cached: an upgrade of Baihua changes the files at the same URLs.
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return Response(file.read_bytes(), media_type=kind, headers=headers)
