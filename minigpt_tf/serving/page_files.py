"""The chat page's files as routes: static, and with headers that let them load nothing else."""

import hashlib
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, no inline script, and no text that becomes HTML."""

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}


@cache
def page_files() -> dict[str, bytes]:
    """The files of the page by name, as they lie in the package."""
    folder = files(__package__) / "page"
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if entry.name.rpartition(".")[2] in CONTENT_TYPES
    }


def page_routes() -> list[Route]:
    """Routes of the page: `/`, and its files at `/page/NAME`. They need no key.

    Returns:
        Routes for a Starlette or FastAPI application.
    """
    return [
        Route("/", _index, methods=["GET", "HEAD"], include_in_schema=False),
        Route("/page/{name}", _file, methods=["GET", "HEAD"], include_in_schema=False),
    ]


def _index(request: Request) -> Response:
    return _answer(request, "index.html")


def _file(request: Request) -> Response:
    return _answer(request, request.path_params["name"])


def _answer(request: Request, name: str) -> Response:
    """A file, or 304 if the browser has it, or 404."""
    content = page_files().get(name)
    if content is None:
        return Response("no such file\n", 404, media_type="text/plain")
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = HEADERS | {"ETag": tag, "Content-Type": CONTENT_TYPES[name.rpartition(".")[2]]}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers)
