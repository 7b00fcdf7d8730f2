"""``POST /api/files``: store a file that mails name by its id."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from mailbatch.application.acting.store_file import FileLabels
from mailbatch.domain.attachment import basename, largest_file
from mailbatch.domain.content_types import UNKNOWN
from mailbatch.domain.rows import as_dict
from mailbatch.interfaces.http.auth import Operator
from mailbatch.interfaces.http.openapi import ACTING, BYTES, tells
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import media_type, parts_of
from mailbatch.interfaces.http.responses import json_response
from mailbatch.interfaces.http.schema import shape
from mailbatch.interfaces.http.upload import Upload, name_in

if TYPE_CHECKING:
    from starlette.responses import Response

router = APIRouter(prefix="/api/files", tags=["reservations"])

AT_ONCE = 2
"""Files that are in memory at the same time, because a database takes each in one piece."""
_FORM = "application/x-www-form-urlencoded"
"""What curl says of any body unless it is told a type."""
_SEMICOLON = re.compile(r"\s*;\s*")


class StoredFile(BaseModel):
    """A stored file. ``id``: the SHA-256 of its content."""

    model_config = shape(
        {
            "id": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "size": 6,
            "filename": "hello.txt",
            "content_type": "text/plain",
        }
    )
    id: str = Field(description="Give it as `file` in `attachments`.")
    size: int
    filename: str | None = Field(description="For mails that give no other.")
    content_type: str | None = Field(description="Null: by the end of the name.")


_STORED = tells(
    StoredFile,
    *ACTING,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    status=HTTPStatus.CREATED,
)
_STORED["responses"][200] = {"model": StoredFile, "description": "The same content was stored before."}


@router.post(
    "",
    summary="Store a file",
    openapi_extra={"requestBody": {"required": True, "content": {UNKNOWN: BYTES}}},
    **_STORED,
)
async def store_file(
    request: Request,
    _caller: Operator,
    filename: Annotated[
        str | None, Query(description="Its name; without it, the name in the header Content-Disposition.")
    ] = None,
) -> Response:
    """The body is the file itself, of any Content-Type. A mail names it by its `id` in `attachments`.

    The same content is stored once, and keeps the name and type that it was given first. A file that no reservation
    names is deleted 25 hours after the last request that stored or named it.
    """
    parts = parts_of(request)
    store, labels = parts.reserving.store_file, _labels(request, filename)
    store.check(labels)
    settings = parts.settings
    with Upload(largest_file(settings.max_message_bytes), settings.spool_dir) as upload:
        await upload.receive(request)
        async with request.app.state.storing:
            stored, is_new = await run_in_threadpool(store, upload.file_id, upload.read, labels)
    return json_response(as_dict(stored), HTTPStatus.CREATED if is_new else HTTPStatus.OK)


def _labels(request: Request, filename: str | None) -> FileLabels:
    """Return what the request says of its file. Raises ``Problem`` if the body is a form with the file in it."""
    kind = media_type(request)
    if kind == "multipart/form-data":
        said = "send the file itself as the body, not a form: curl --data-binary @FILE"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, said)
    name = basename(filename) if filename else name_in(request.headers.get("content-disposition", ""))
    if kind in {"", UNKNOWN, _FORM}:
        return FileLabels(filename=name)
    return FileLabels(filename=name, content_type=_SEMICOLON.sub("; ", request.headers["content-type"]))
