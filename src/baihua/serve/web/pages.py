"""Static pages, served with a policy that forbids them any request to other origins."""

import mimetypes
from importlib import resources
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from baihua.serve.web.errors import HttpError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# Not left to `mimetypes`, which on Windows reads the registry.
TYPES = {".js": "text/javascript", ".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml"}
FOLDER = resources.files("baihua.serve") / "pages"


def page_routes(start: str) -> list[Route]:
    """Routes for the page at `/` and the files it loads from `/pages/`."""

    async def show(request: Request) -> Response:
        return read_page(request.path_params.get("name", start))

    return [Route("/", show), Route("/pages/{name:path}", show)]


def read_page(name: str) -> Response:
    """A file of the folder `pages`; a 404 for any path outside it."""
    path = PurePosixPath(name)
    # Backslashes, colons and NUL have special meanings on Windows; none of our file names has them.
    is_outside = path.is_absolute() or ".." in path.parts or any(char in name for char in "\\:\0")
    file = FOLDER.joinpath(*path.parts)
    if is_outside or not path.parts or not file.is_file():
        raise HttpError(404, "page not found", code="not_found")
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    # Not cached: an upgrade of Baihua changes the files at the same URLs.
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return Response(file.read_bytes(), media_type=kind, headers=headers)
