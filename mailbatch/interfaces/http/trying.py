"""``/api/preview`` and ``/api/test-send``: see a mail, and send one to yourself."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from mailbatch.application.compose import Rendered
from mailbatch.application.reserve import in_words_of
from mailbatch.domain.reservation import Mail
from mailbatch.interfaces.http import shapes
from mailbatch.interfaces.http.answers import answer
from mailbatch.interfaces.http.asking import parts_of
from mailbatch.interfaces.http.auth import Operator, Reader
from mailbatch.interfaces.http.telling import ACTING, tells
from mailbatch.interfaces.noting import noted

router = APIRouter(prefix="/api", tags=["trying"])


@router.post("/preview", summary="Render a mail", **tells(shapes.Rendered, *ACTING))
def preview(request: Request, _caller: Operator, body: shapes.PreviewIn) -> Response:
    """A template, or sources, with a context. 422 names each part that fails, with its line."""
    return _shown(parts_of(request).preview(Mail(recipients="", **body.model_dump())))


@router.get(
    "/reservations/{reservation_id}/preview",
    summary="Render a reservation",
    tags=["reservations"],
    **tells(shapes.Rendered, HTTPStatus.NOT_FOUND),
)
def preview_stored(request: Request, _caller: Reader, reservation_id: UUID) -> Response:
    """As its templates would make it now."""
    return _shown(parts_of(request).preview.stored(reservation_id))


@router.post("/test-send", summary="Send one mail to yourself", **tells(shapes.Tried, *ACTING))
def test_send(request: Request, caller: Operator, body: shapes.TrialIn) -> Response:
    """Straight to the relay, at once; nothing is stored, and nothing tries again. REDIRECT_ALL_TO is honoured."""
    parts = parts_of(request)
    with noted(parts.actions, caller, "test-send", {"template": body.template} if body.template else {}) as deed:
        with in_words_of({"recipients": "to"}):
            tried = parts.try_sending(Mail(recipients=body.to, **body.model_dump(exclude={"to"})))
        deed.affected, deed.outcome = 1, tried.outcome
    return answer(asdict(tried))


def _shown(rendered: Rendered) -> Response:
    return answer({"subject": rendered.subject, "text": rendered.text, "html": rendered.html})
