"""Starlette applications with our access rules and error responses."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from baihua.core.errors import BaihuaError
from baihua.serve.web.access import AccessGuard, Rules
from baihua.serve.web.errors import on_baihua_error, on_crash, on_http_error

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _no_lifespan(app: Starlette) -> AsyncIterator[None]:
    yield


def make_app(
    routes: Sequence[BaseRoute],
    *,
    rules: Rules,
    lifespan: Lifespan = _no_lifespan,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """An ASGI application; `middleware` sees requests before the access rules do."""
    app = Starlette(
        routes=list(routes),
        middleware=[*middleware, Middleware(AccessGuard, rules=rules)],
        exception_handlers={HTTPException: on_http_error, BaihuaError: on_baihua_error, Exception: on_crash},
        lifespan=lifespan,
    )
    app.state.rules = rules
    # By default Starlette redirects /v1/models/ to /v1/models; here a wrong path is a 404.
    app.router.redirect_slashes = False
    return app
