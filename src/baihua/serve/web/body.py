"""The JSON of a request, read without trust."""

import json
import re
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from baihua.serve.web.guard import Rules, too_large
from baihua.serve.web.problem import Problem

M = TypeVar("M", bound=BaseModel)

STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
# A number of more digits has no use here, and Python reads it in quadratic time.
MAX_DIGITS = 400
LONG_NUMBER = re.compile(rb"\d{%d}" % MAX_DIGITS)


async def read_json(request: Request) -> Any:
    """The JSON of a request; whatever is wrong with it is a Problem.

    A browser sends a page's request to another origin only after asking first where the content type is JSON; so
    asking for this type keeps pages from elsewhere out, because nothing here answers such a question.
    """
    rules: Rules = request.app.state.rules
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "send JSON, with the header Content-Type: application/json", code="wrong_content_type")
    return parse(await _read(request, rules.max_body_bytes), max_depth=rules.max_depth)


async def read_model(request: Request, model: type[M]) -> M:
    """The JSON of a request as a checked object."""
    found = await read_json(request)
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        raise Problem(400, f"{param or 'the request'}: {first['msg']}", code="invalid_value", param=param) from None


def parse(data: bytes, *, max_depth: int) -> Any:
    """JSON from bytes: no deeper than that, no half characters, no numbers that JSON does not know."""
    outside = STRING.sub(b"", data)
    if _depth(outside) > max_depth:
        raise Problem(400, f"the JSON nests deeper than {max_depth}", code="invalid_json")
    if LONG_NUMBER.search(outside):
        raise Problem(400, f"a number has more than {MAX_DIGITS} digits", code="invalid_json")
    try:
        # As text: of bytes json itself would take UTF-16 and UTF-32 too, in which brackets look different.
        found = json.loads(data.decode("utf-8"), parse_constant=_refuse)
        # A lone surrogate is a JSON string, but no text: no tokenizer takes it.
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise Problem(400, "the text is not valid Unicode", code="invalid_json") from None
    except ValueError as error:
        raise Problem(400, f"this is not JSON: {error}", code="invalid_json") from None
    return found


async def _read(request: Request, max_bytes: int) -> bytes:
    parts, num_bytes = [], 0
    try:
        async for part in request.stream():
            num_bytes += len(part)
            if num_bytes > max_bytes:
                raise too_large(max_bytes)
            parts.append(part)
    except ClientDisconnect:
        raise Problem(400, "the request broke off", code="invalid_json") from None
    return b"".join(parts)


def _depth(outside: bytes) -> int:
    """How deep brackets nest; `outside` has no strings."""
    depth = deepest = 0
    for byte in outside:
        depth += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, depth)
    return deepest


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
