"""Receives a file as the body of a request: kept in a temporary file without a name, and hashed as it comes."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from email.message import Message
from email.utils import collapse_rfc2231_value
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from mailbatch.domain.attachment import basename
from mailbatch.domain.content import PIECE
from mailbatch.interfaces.http.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from starlette.requests import Request


class Upload:
    """A body while it arrives. ``limit``: bytes that it may have. ``folder``: as for ``Spool``."""

    def __init__(self, limit: int, folder: Path | None) -> None:
        self._limit = limit
        self._hash = sha256()
        self._size = 0
        self._folder = str(folder or tempfile.gettempdir())
        self._file = tempfile.SpooledTemporaryFile(PIECE, prefix="mailbatch-", dir=self._folder)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Closing a file on a full disk writes again what is still buffered.
        with self._failing():
            self._file.close()

    @property
    def file_id(self) -> str:
        """The SHA-256 of what has arrived."""
        return self._hash.hexdigest()

    async def receive(self, request: Request) -> None:
        """Take in the body of ``request``. Raises ``Problem`` as soon as it is too large."""
        length = request.headers.get("content-length", "")
        self._ensure_fits(int(length) if length.isdecimal() else 0)
        async for piece in request.stream():
            self._size += len(piece)
            self._ensure_fits(self._size)
            self._hash.update(piece)
            with self._failing():
                self._file.write(piece)

    def read(self) -> bytes:
        """Return the whole content."""
        with self._failing():
            self._file.seek(0)
            return self._file.read()

    def _ensure_fits(self, size: int) -> None:
        if size > self._limit:
            what = f"the file is larger than {self._limit} bytes, so no message of MAILBATCH_MAX_MESSAGE_BYTES could"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{what} have it", {"Connection": "close"})

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"a temporary file in {self._folder} cannot be used: {error.strerror or error}"
            detail = f"{what}; make room there, or set MAILBATCH_SPOOL_DIR"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "60"}) from error


def name_in(disposition: str) -> str | None:
    """Return the name in the field Content-Disposition (RFC 6266), without folders; None if it has none.

    ``disposition`` is decoded as ISO 8859-1, as header fields are. Many clients write UTF-8 there.
    """
    raw = disposition.encode("latin-1", "replace")
    field = Message()
    try:
        field["Content-Disposition"] = raw.decode()
    except UnicodeDecodeError:
        field["Content-Disposition"] = disposition
    given = [value for name, value in field.get_params([], "content-disposition") if name.lower() == "filename"]
    # RFC 6266 §4.3: filename* (here a tuple) comes before filename.
    given.sort(key=lambda value: isinstance(value, str))
    return basename(collapse_rfc2231_value(given[0])) or None if given else None
