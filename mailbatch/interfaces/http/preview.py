"""``/api/preview`` and ``/api/test-send``: see a mail, and send one to yourself."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from mailbatch.application.acting.reserve import with_names
from mailbatch.domain.reservation import Mail
from mailbatch.interfaces.documents import of_preview
from mailbatch.interfaces.http.auth import Operator, Reader
from mailbatch.interfaces.http.openapi import ACTING, tells
from mailbatch.interfaces.http.request_params import parts_of
from mailbatch.interfaces.http.reservation_schemas import SERVED_IN
from mailbatch.interfaces.http.responses import json_response
from mailbatch.interfaces.http.schema import shape

router = APIRouter(prefix="/api", tags=["trying"])


class PreviewIn(BaseModel):
    """A mail to render: a template or sources, and their context."""

    model_config = shape({"subject": "Hello {{ name }}", "body_text": "Dear {{ name }}, …", "context": {"name": "Ann"}})
    template: str | None = None
    subject: str | None = None
    body_text: str | None = None
    body_html: str | None = None
    context: dict[str, Any] | None = None
    locale: str | None = Field(None, description="The language of the template: a tag of BCP 47, such as `pt-BR`.")


class Rendered(BaseModel):
    """A rendered mail."""

    model_config = shape(
        {
            "subject": "Hello Ann",
            "text": "Dear Ann, …",
            "html": "<p>Dear Ann, …</p>",
            "locale": "pt-BR",
            "served_in": ["pt"],
        }
    )
    subject: str
    text: str | None
    html: str | None
    locale: str | None = Field(description="The language that it asks for.")
    served_in: list[str] = Field(description=SERVED_IN)


class TrialIn(PreviewIn):
    """A test mail to send once."""

    model_config = shape({"to": "me@example.com", "template": "order-confirmation", "context": {"name": "Ann"}})
    to: str = Field(description="An address of your own.")
    sender: str | None = None


class Tried(BaseModel):
    """What the relay said."""

    model_config = shape({"outcome": "sent", "relay": "mx.example.com:587", "reply": "250 2.0.0 OK queued as 4F2"})
    outcome: Literal["sent", "deferred", "failed", "in_doubt", "relay_fault"]
    relay: str | None
    reply: str


@router.post("/preview", summary="Render a mail", **tells(Rendered, *ACTING))
def preview(request: Request, _caller: Operator, body: PreviewIn) -> Response:
    """Renders a template or sources with a context. 422 names each part that fails, with its line."""
    return json_response(
        of_preview(parts_of(request).operating.preview.shown(Mail(recipients="", **body.model_dump())))
    )


@router.get(
    "/reservations/{reservation_id}/preview",
    summary="Render a reservation",
    tags=["reservations"],
    **tells(Rendered, HTTPStatus.NOT_FOUND),
)
def preview_stored(request: Request, _caller: Reader, reservation_id: UUID) -> Response:
    """Renders it as its templates would now."""
    return json_response(of_preview(parts_of(request).operating.preview.stored(reservation_id)))


@router.post("/test-send", summary="Send one mail to yourself", **tells(Tried, *ACTING))
def test_send(request: Request, caller: Operator, body: TrialIn) -> Response:
    """Sends it to the relay at once. Nothing is stored, and it is not tried again. REDIRECT_ALL_TO applies."""
    parts = parts_of(request)
    target = {"template": body.template} if body.template else {}
    with parts.acting.audit.around(caller.actor, "test-send", target) as entry:
        with with_names({"recipients": "to"}):
            tried = parts.operating.try_sending(Mail(recipients=body.to, **body.model_dump(exclude={"to"})))
        entry.affected, entry.outcome = 1, tried.outcome
    return json_response(asdict(tried))
