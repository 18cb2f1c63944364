"""HTTP errors in the JSON form that clients of OpenAI's API expect."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from baihua.core.errors import BaihuaError, InputError, TooLongError
from baihua.core.log import logger

# OpenAI's names. Its client picks the exception class by the status alone.
TYPES = {401: "authentication_error", 429: "rate_limit_error", 503: "overloaded_error"}
CODES = {404: "not_found", 405: "method_not_allowed"}


class HttpError(HTTPException):
    """An error response: status, message, OpenAI's `code` and `param`; `retry_after` is in seconds."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        super().__init__(status, message, headers | ({"WWW-Authenticate": "Bearer"} if status == 401 else {}))
        self.code = code
        self.param = param

    def as_json(self) -> dict[str, object]:
        """The body of the response."""
        kind = TYPES.get(self.status_code, "server_error" if self.status_code >= 500 else "invalid_request_error")
        return {"error": {"message": self.detail, "type": kind, "param": self.param, "code": self.code}}

    def to_response(self) -> Response:
        """The complete response."""
        return JSONResponse(self.as_json(), status_code=self.status_code, headers=self.headers)


def as_http_error(error: Exception) -> HttpError:
    """Map any exception to an error response; one of our InputErrors is the client's to fix, others are not.

    The location (`where`) is left out: clients must not learn paths of this machine.
    """
    if isinstance(error, HttpError):
        return error
    if not isinstance(error, BaihuaError):
        return HttpError(500, "internal error; see the server's log", code="internal_error")
    text = f"{error.what} ({error.fix})" if error.fix else error.what
    if isinstance(error, TooLongError):
        return HttpError(400, text, code="context_length_exceeded", param="messages")
    if isinstance(error, InputError):
        return HttpError(400, text)
    logger.error("an answer failed: %s", error)
    return HttpError(500, "the model failed; see the server's log", code="engine_error")


async def on_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for all exceptions; it logs the traceback of those that are not ours."""
    if isinstance(error, HTTPException) and not isinstance(error, HttpError):
        # Starlette's own, for an unknown path or a wrong method.
        message = f"{error.detail}: {request.method} {request.url.path}"
        found = HttpError(error.status_code, message, code=CODES.get(error.status_code))
        found.headers = error.headers
        return found.to_response()
    return as_http_error(error).to_response()
