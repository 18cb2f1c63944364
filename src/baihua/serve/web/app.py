"""A web application of ours: routes behind the guard, with our errors."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from baihua.core.errors import BaihuaError
from baihua.serve.web.guard import Guard, Rules
from baihua.serve.web.problem import Problem, on_error, on_mistake, on_problem, to_response

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _no_lifespan(app: Starlette) -> AsyncIterator[None]:
    yield


def make_app(routes: Sequence[BaseRoute], *, rules: Rules, lifespan: Lifespan = _no_lifespan) -> Starlette:
    """An ASGI application; `app.state` carries whatever its routes need, and `rules` already."""
    app = Starlette(
        routes=list(routes),
        middleware=[Middleware(Guard, rules=rules)],
        exception_handlers={
            Problem: on_problem,
            BaihuaError: on_error,
            HTTPException: _on_http,
            Exception: on_mistake,
        },
        lifespan=lifespan,
    )
    app.state.rules = rules
    # A path is right or wrong; a redirect would answer where nothing is.
    app.router.redirect_slashes = False
    return app


async def _on_http(request: Request, error: Exception) -> Response:
    """Starlette's own errors: no such path, or not with this method."""
    assert isinstance(error, HTTPException), "registered for these alone"
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
    message = f"{error.detail}: {request.method} {request.url.path}"
    response = to_response(Problem(error.status_code, message, code=code))
    response.headers.update(error.headers or {})
    return response
