"""Errors as a client of OpenAI's API expects them."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from baihua.core.errors import BaihuaError, InputError, TooLongError
from baihua.core.log import logger

# OpenAI's names; its client makes exceptions of the status alone.
TYPES = {401: "authentication_error", 429: "rate_limit_error", 503: "overloaded_error"}


class Problem(Exception):  # noqa: N818  (the word of RFC 9457 for what a server answers instead)
    """A request that gets no answer, and why; `retry_after` is in seconds."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after

    def as_json(self) -> dict[str, object]:
        """The error as it is sent."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def explain(error: BaihuaError) -> Problem:
    """An error of ours as a problem: what the client can mend is its own, all else the server's.

    Where something is stays here: a client has no business with our paths.
    """
    text = f"{error.what} ({error.fix})" if error.fix else error.what
    if isinstance(error, TooLongError):
        return Problem(400, text, code="context_length_exceeded", param="messages")
    if isinstance(error, InputError):
        return Problem(400, text)
    logger.error("an answer failed: %s", error)
    return Problem(500, "the model failed; the server's log says more", code="engine_error")


def to_response(problem: Problem) -> Response:
    """A problem as a whole response."""
    headers = {} if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(problem.as_json(), status_code=problem.status, headers=headers)


async def on_problem(request: Request, error: Exception) -> Response:
    """Starlette's handler for our problems."""
    assert isinstance(error, Problem), "registered for problems alone"
    return to_response(error)


async def on_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for errors of the product below."""
    assert isinstance(error, BaihuaError), "registered for our errors alone"
    return to_response(explain(error))


async def on_mistake(request: Request, error: Exception) -> Response:
    """Starlette's handler for mistakes of ours; starlette itself raises the error again for the log."""
    return to_response(Problem(500, "the server made a mistake; its log says more", code="internal_error"))
