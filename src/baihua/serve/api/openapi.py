"""The OpenAPI description of the API."""

from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

from baihua import __version__
from baihua.serve.api.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from baihua.serve.web.request_body import RequestModel

POSTS: dict[str, tuple[str, type[RequestModel]]] = {
    "/v1/chat/completions": ("Answer a conversation", ChatRequest),
    "/v1/completions": ("Continue a text", CompletionRequest),
    "/v1/embeddings": ("Embed texts", EmbeddingRequest),
}
GETS = {
    "/v1/models": "List the models",
    "/v1/models/{name}": "Describe a model",
    "/health": "Whether new requests are accepted",
    "/metrics": "Metrics for Prometheus",
}
ERRORS = {
    "400": "Invalid request",
    "401": "Missing or wrong API key",
    "404": "Unknown model",
    "413": "Request body too large",
    "415": "Content type is not JSON",
    "429": "The queue is full; retry after the seconds in Retry-After",
    "503": "No slot in time, or the server is stopping; retry after the seconds in Retry-After",
}
REF = "#/components/schemas/{model}"
TEXT, TEXT_OR_NULL = {"type": "string"}, {"type": ["string", "null"]}
ERROR = {"message": TEXT, "type": TEXT, "param": TEXT_OR_NULL, "code": TEXT_OR_NULL}
PROBLEM = {"type": "object", "properties": {"error": {"type": "object", "properties": ERROR}}, "required": ["error"]}


@cache
def describe() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    _, definitions = models_json_schema([(model, "validation") for _, model in POSTS.values()], ref_template=REF)
    paths: dict[str, Any] = {}
    for path, (summary, model) in POSTS.items():
        body = {"required": True, "content": _json(model.__name__)}
        paths[path] = {"post": {"summary": summary, "requestBody": body, "responses": _responses(*ERRORS)}}
    for path, summary in GETS.items():
        responses = _responses("401", *(["404"] if "{" in path else []), *(["503"] if path == "/health" else []))
        names = [{"name": "name", "in": "path", "required": True, "schema": TEXT}] if "{" in path else []
        paths[path] = {"get": {"summary": summary, "parameters": names, "responses": responses}}
    schemas = {"Problem": PROBLEM, **definitions["$defs"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Baihua", "version": __version__},
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
        "paths": paths,
    }


def _json(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REF.format(model=model)}}}


def _responses(*statuses: str) -> dict[str, Any]:
    errors = {status: {"description": ERRORS[status], "content": _json("Problem")} for status in statuses}
    return {"200": {"description": "OK"}} | errors
