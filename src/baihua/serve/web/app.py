"""Starlette applications with our access control and error responses."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from baihua.core.errors import BaihuaError
from baihua.serve.web.access import AccessGuard
from baihua.serve.web.errors import on_error

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _no_lifespan(app: Starlette) -> AsyncIterator[None]:
    yield


def make_app(
    routes: Sequence[BaseRoute],
    *,
    key: str | None,
    lifespan: Lifespan = _no_lifespan,
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
