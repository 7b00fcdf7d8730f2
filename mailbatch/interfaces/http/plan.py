"""``/api/plan``: what the next run would send."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from mailbatch.domain.job_name import SEND_ALL
from mailbatch.interfaces.documents import of_plan
from mailbatch.interfaces.http.auth import Reader
from mailbatch.interfaces.http.openapi import tells
from mailbatch.interfaces.http.request_params import parts_of
from mailbatch.interfaces.http.reservation_schemas import RETURNS_TO, SERVED_IN, File
from mailbatch.interfaces.http.responses import json_response
from mailbatch.interfaces.http.schema import EXAMPLE_ID, shape

router = APIRouter(prefix="/api", tags=["operating"])

MOST = 100
_SECONDS = 5.0
"""Seconds for composing the mails of a plan at most."""


class Planned(BaseModel):
    """A mail that the next run would send, or could not compose."""

    model_config = shape(
        {
            "id": EXAMPLE_ID,
            "recipients": "Ann Example <ann@example.com>",
            "subject": "Your order 4711",
            "size": 1204,
            "errors": [],
            "waits_for": "the tag newsletter is blocked",
            "locale": "pt-BR",
            "files": [],
            "served_in": ["pt"],
            "returns_to": "shop@example.com",
        }
    )
    id: UUID
    recipients: str
    subject: str = Field(description="As the reader will see it.")
    size: int = Field(description="Bytes of the message; 0 if it cannot be composed.")
    errors: list[str] = Field(description="Why it cannot be composed.")
    waits_for: str | None = Field(description="Why a gate will hold it back; null if none will.")
    locale: str | None
    files: list[File] = Field(description="The files of `attachments`; entries that are no file are left out.")
    served_in: list[str] = Field(description=SERVED_IN)
    returns_to: str | None = Field(description=RETURNS_TO)


class Plan(BaseModel):
    """What the next run would send."""

    model_config = shape()
    by: datetime | None = Field(description="The next tick: what is due by then. Null: what is due now.")
    due: int
    exact: bool = Field(description="False: more than `due` are due.")
    mails_per_second: float | None = Field(description="As in the last runs.")
    seconds: float | None = Field(description="How long the run takes at that rate.")
    first: list[Planned] = Field(description="The mails that go first.")


Limit = Annotated[int, Query(ge=1, le=MOST, description="How many mails are composed, and shown, at most.")]


@router.get("/plan", summary="What would the next run send?", **tells(Plan))
def plan(request: Request, _caller: Reader, limit: Limit = 10) -> Response:
    """Composes the mails that go first, and sends nothing. `first` has fewer if composing takes some seconds."""
    operating = parts_of(request).operating
    by = operating.watch(SEND_ALL, lock=False).look(SEND_ALL).next_run.to_come
    until = time.monotonic() + _SECONDS
    return json_response(of_plan(operating.plan_run.first(by, limit, lambda: time.monotonic() > until)))
