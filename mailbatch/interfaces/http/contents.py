"""``/api/reservations/{id}/attachments/{n}`` and ``…/message``: what a mail carries, to be saved."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from mailbatch.domain.content import ContentInMemory
from mailbatch.domain.content_types import UNKNOWN
from mailbatch.domain.errors import NotFound
from mailbatch.interfaces.downloads import download
from mailbatch.interfaces.http.auth import Reader
from mailbatch.interfaces.http.openapi import problems_of
from mailbatch.interfaces.http.request_params import parts_of

router = APIRouter(prefix="/api/reservations/{reservation_id}", tags=["reservations"])

_SAVED: dict[str, Any] = {
    "responses": {
        200: {"description": "The bytes, with a name in Content-Disposition.", "content": {UNKNOWN: {}}},
        **problems_of(HTTPStatus.NOT_FOUND),
    },
    "response_model": None,
    "response_class": Response,
}


@router.get("/attachments/{number}", summary="Download one of its files", **_SAVED)
def attachment(request: Request, _caller: Reader, reservation_id: UUID, number: int) -> Response:
    """The content of one of `files`, which are counted from 1."""
    operating = parts_of(request).operating
    row, _ = operating.show_reservation(reservation_id)
    opened = operating.mail_files.open(row.attachments, number)
    return download(opened.content, opened.file.filename)


@router.get("/message", summary="Download a finished message", **_SAVED)
def message(request: Request, _caller: Reader, reservation_id: UUID) -> Response:
    """The message as it is stored; 404 if the reservation is none."""
    row, _ = parts_of(request).operating.show_reservation(reservation_id)
    if row.message is None:
        raise NotFound(f"reservation {reservation_id} is no finished message")
    content = ContentInMemory(row.message) if isinstance(row.message, bytes) else row.message
    return download(content, f"{reservation_id}.eml")
