"""``/api/preview`` and ``/api/test-send``: see a mail, and send one to yourself."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from mailbatch.application.acting.reserve import in_words_of
from mailbatch.application.sending.compose import Rendered
from mailbatch.domain.reservation import Mail
from mailbatch.interfaces.http import schemas
from mailbatch.interfaces.http.auth import Operator, Reader
from mailbatch.interfaces.http.openapi import ACTING, tells
from mailbatch.interfaces.http.request_params import parts_of
from mailbatch.interfaces.http.responses import answer

router = APIRouter(prefix="/api", tags=["trying"])


@router.post("/preview", summary="Render a mail", **tells(schemas.Rendered, *ACTING))
def preview(request: Request, _caller: Operator, body: schemas.PreviewIn) -> Response:
    """A template, or sources, with a context. 422 names each part that fails, with its line."""
    return _shown(parts_of(request).operating.preview(Mail(recipients="", **body.model_dump())))


@router.get(
    "/reservations/{reservation_id}/preview",
    summary="Render a reservation",
    tags=["reservations"],
    **tells(schemas.Rendered, HTTPStatus.NOT_FOUND),
)
def preview_stored(request: Request, _caller: Reader, reservation_id: UUID) -> Response:
    """As its templates would make it now."""
    return _shown(parts_of(request).operating.preview.stored(reservation_id))


@router.post("/test-send", summary="Send one mail to yourself", **tells(schemas.Tried, *ACTING))
def test_send(request: Request, caller: Operator, body: schemas.TrialIn) -> Response:
    """Straight to the relay, at once; nothing is stored, and nothing tries again. REDIRECT_ALL_TO is honoured."""
    parts = parts_of(request)
    target = {"template": body.template} if body.template else {}
    with parts.acting.audit.around(caller.actor, "test-send", target) as entry:
        with in_words_of({"recipients": "to"}):
            tried = parts.operating.try_sending(Mail(recipients=body.to, **body.model_dump(exclude={"to"})))
        entry.affected, entry.outcome = 1, tried.outcome
    return answer(asdict(tried))


def _shown(rendered: Rendered) -> Response:
    return answer({"subject": rendered.subject, "text": rendered.text, "html": rendered.html})
