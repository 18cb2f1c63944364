"""Our static pages, and the headers that keep them from asking anything of anybody else."""

import mimetypes
from importlib import resources
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from baihua.serve.web.problem import Problem

SOURCES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "form-action": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
POLICY = "; ".join(f"{name} {value}" for name, value in SOURCES.items())
TYPES = {".js": "text/javascript", ".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml"}
FOLDER = resources.files("baihua.serve") / "pages"


def page_routes(start: str) -> list[Route]:
    """Routes of the page at `/` and of what it loads."""

    async def first(request: Request) -> Response:
        return read_page(start)

    async def other(request: Request) -> Response:
        return read_page(request.path_params["name"])

    return [Route("/", first), Route("/pages/{name:path}", other)]


def read_page(name: str) -> Response:
    """A file of the folder of pages, by a path that stays inside it."""
    path = PurePosixPath(name)
    # Windows reads a backslash, a colon and some names in its own way: none of ours has any of them.
    if path.is_absolute() or ".." in path.parts or any(char in name for char in "\\:\0"):
        raise Problem(404, "no such page", code="not_found")
    file = FOLDER.joinpath(*path.parts)
    if not path.parts or not file.is_file():
        raise Problem(404, "no such page", code="not_found")
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    # A new version of Baihua brings new files at the same addresses.
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return Response(file.read_bytes(), media_type=kind, headers=headers)
