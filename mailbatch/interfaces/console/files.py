"""``/static``: the style, the icon and htmx. All come from this server, and there is no build step."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter
from starlette.responses import Response

from mailbatch.interfaces.console.screen import STATIC
from mailbatch.interfaces.http.problems import Problem

router = APIRouter(prefix="/static", include_in_schema=False)

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {path.name: path for path in STATIC.iterdir() if path.suffix in _TYPES}


@router.get("/{name}")
def file(name: str) -> Response:
    """Return a file. Its address changes with its content, so browsers may keep it for a year."""
    path = _FILES.get(name)
    if path is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there is no such file")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=headers)
