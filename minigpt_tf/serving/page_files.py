"""The files of the page at /, read once as the server starts."""

import hashlib
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Nothing is loaded from elsewhere, and no other site shows the page in a frame."""


def page_paths(folder: Path = FOLDER) -> dict[str, Path]:
    """The paths of the page's files.

    Args:
        folder: Where they are.

    Returns:
        Path on the server -> file; empty if there is no page.
    """
    files = {f"/{file.name}": file for file in sorted(folder.glob("*.*")) if file.is_file()}
    if f"/{INDEX}" in files:
        files["/"] = files[f"/{INDEX}"]
    return files


def page_router(files: dict[str, Path]) -> APIRouter:
    """Routes for the page's files.

    Args:
        files: From `page_paths`.

    Returns:
        The routes.
    """
    router = APIRouter()
    for path, file in files.items():
        router.add_api_route(
            path, _serve(file), methods=["GET"], include_in_schema=False, response_model=None
        )
    return router


def _serve(file: Path) -> Callable[[Request], Awaitable[Response]]:
    content = file.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    headers = {**HEADERS, "ETag": tag}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return serve
