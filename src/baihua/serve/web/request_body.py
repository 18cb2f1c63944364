"""The JSON body of a request, limited in size and depth and validated."""

import itertools
import json
import re
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from baihua.serve.web.app import MAX_BODY_BYTES, too_large
from baihua.serve.web.errors import HttpError

MAX_DEPTH = 32
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
# Python parses long integers in quadratic time, and no field needs this many digits.
MAX_DIGITS = 400
LONG_NUMBER = re.compile(rb"\d{%d}" % MAX_DIGITS)


class RequestModel(BaseModel):
    """The base of all request bodies: no coercion between types, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


M = TypeVar("M", bound=RequestModel)


async def read_json(request: Request) -> Any:
    """Read and parse a body; any fault is an HttpError.

    The content type must be JSON: browsers send cross-origin requests of that type only after a CORS preflight, which
    this server never approves, so pages of other origins cannot call it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = f"expected Content-Type: application/json, found {kind or 'none'}"
        raise HttpError(415, message, code="wrong_content_type")
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise too_large()
    except ClientDisconnect:
        raise _invalid("the client disconnected before the whole body arrived") from None
    return parse_json(bytes(body))


async def read_model(request: Request, model: type[M]) -> M:
    """Read a body as a validated object."""
    found = await read_json(request)
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        message = f"{param or 'the request body'}: {first['msg']}"
        raise HttpError(400, message, code="invalid_value", param=param) from None


def parse_json(data: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON; refuse deep nesting, lone surrogates, huge integers, NaN and Infinity."""
    outside_strings = STRING.sub(b"", data)
    steps = ((byte in b"[{") - (byte in b"]}") for byte in outside_strings)
    if max(itertools.accumulate(steps), default=0) > max_depth:
        raise _invalid(f"the JSON is nested deeper than {max_depth} levels")
    if LONG_NUMBER.search(outside_strings):
        raise _invalid(f"a number has more than {MAX_DIGITS} digits")
    try:
        # Decoded first: given bytes, json would also accept UTF-16 and UTF-32, where brackets are other bytes.
        found = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
        # A lone surrogate is valid JSON but cannot be encoded, so no tokenizer takes it.
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise _invalid("the text is not valid Unicode") from None
    except ValueError as error:
        raise _invalid(f"invalid JSON: {error}") from None
    return found


def _invalid(message: str) -> HttpError:
    return HttpError(400, message, code="invalid_json")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
