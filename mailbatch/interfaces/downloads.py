"""Downloads: bytes that are sent in pieces, to be saved and never shown by the browser."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import StreamingResponse

from mailbatch.domain.attachment import basename

if TYPE_CHECKING:
    from mailbatch.domain.content import Content

_LONGEST_NAME = 200
# What a quoted string or a file system does not take, and characters that nobody sees.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\/:*?<>|%\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]')
_UNKNOWN = "application/octet-stream"


def download(content: Content, filename: str) -> StreamingResponse:
    """Return ``content`` as a file that a browser saves under a safe form of ``filename``.

    Its own type is not told, so that no browser shows it. Raises what reading the first piece raises.
    """
    pieces = content.pieces()
    first = next(pieces, b"")
    headers = {
        "Content-Disposition": disposition(filename),
        "Content-Length": str(content.size),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(chain([first], pieces), media_type=_UNKNOWN, headers=headers)


def disposition(filename: str) -> str:
    """Return the value of Content-Disposition with a name in ASCII, and in UTF-8 where it differs (RFC 6266 §4.3)."""
    name = safe_name(filename)
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    extended = f"; filename*=UTF-8''{quote(name, safe='')}" if plain != name else ""
    return f'attachment; filename="{plain}"{extended}'


def safe_name(filename: str) -> str:
    """Return ``filename`` without folders, and with an underscore for each character that is not safe in a name."""
    name = _UNSAFE.sub("_", basename(filename)).strip(" .")
    if len(name) <= _LONGEST_NAME:
        return name or "file"
    stem, dot, ending = name.rpartition(".")
    return f"{stem[: _LONGEST_NAME - 20]}{dot}{ending[:19]}"
