"""The description of the API, for programs."""

from functools import cache
from typing import Any

from pydantic import BaseModel

from baihua import __version__
from baihua.serve.api.requests import ChatRequest, CompletionRequest, EmbeddingRequest

POSTS: dict[str, tuple[str, type[BaseModel]]] = {
    "/v1/chat/completions": ("Answer a conversation", ChatRequest),
    "/v1/completions": ("Continue a text", CompletionRequest),
    "/v1/embeddings": ("Vectors of texts", EmbeddingRequest),
}
GETS = {
    "/v1/models": "The models",
    "/v1/models/{name}": "One model",
    "/health": "Whether new requests are let in",
    "/metrics": "Counts for Prometheus",
}
PROBLEMS = {
    "400": "Something in the request is wrong",
    "401": "A key is needed",
    "404": "No such model",
    "413": "Too large",
    "415": "Not JSON",
    "429": "The queue is full; Retry-After says when to come again",
    "503": "No place in time, or the server stops; Retry-After says when to come again",
}
REF = "#/components/schemas/{model}"


@cache
def describe() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    schemas: dict[str, Any] = {"Problem": _problem()}
    paths: dict[str, Any] = {}
    for path, (summary, model) in POSTS.items():
        schema = model.model_json_schema(ref_template=REF)
        schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
        content = {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}}
        body = {"required": True, "content": content}
        paths[path] = {"post": {"summary": summary, "requestBody": body, "responses": _responses(*PROBLEMS)}}
    for path, summary in GETS.items():
        responses = _responses("401", *(["404"] if "{" in path else []), *(["503"] if path == "/health" else []))
        names = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}] if "{" in path else []
        paths[path] = {"get": {"summary": summary, "parameters": names, "responses": responses}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Baihua", "version": __version__},
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
        "paths": paths,
    }


def _responses(*statuses: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": REF.format(model="Problem")}}}
    wrong = {status: {"description": PROBLEMS[status], "content": content} for status in statuses}
    return {"200": {"description": "Done"}} | wrong


def _problem() -> dict[str, Any]:
    text, maybe = {"type": "string"}, {"type": ["string", "null"]}
    error = {"type": "object", "properties": {"message": text, "type": text, "param": maybe, "code": maybe}}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}
