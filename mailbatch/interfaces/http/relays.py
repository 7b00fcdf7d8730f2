"""``/api/relays``: how each relay stands."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from mailbatch.domain.circuit import CircuitState
from mailbatch.interfaces.documents import of_relay_standing
from mailbatch.interfaces.http.auth import Reader
from mailbatch.interfaces.http.openapi import tells
from mailbatch.interfaces.http.request_params import parts_of
from mailbatch.interfaces.http.responses import json_response
from mailbatch.interfaces.http.schema import shape

router = APIRouter(prefix="/api", tags=["operating"])


class ShownRelay(BaseModel):
    """A relay, and why it gets no mail if it gets none."""

    model_config = shape(
        {
            "name": "ses",
            "state": "open",
            "since": "2026-11-28T09:00:00Z",
            "until": "2026-11-28T09:04:30Z",
            "reason": "cannot connect: Connection refused",
            "connections": 3,
            "total_connections": 10,
        }
    )
    name: str
    state: CircuitState = Field(
        description="`closed`: it gets mails. `open`: it is left alone. `half_open`: it is probed."
    )
    since: datetime | None = Field(description="Since when it gets no mail.")
    until: datetime | None = Field(description="When it is probed at the earliest.")
    reason: str | None
    connections: int | None = Field(description="Of all lanes and hosts; null if they are not counted.")
    total_connections: int = Field(description="How many there may be; 0: no limit.")


class ShownRelays(BaseModel):
    """Every relay, in the order of the relays' file."""

    model_config = shape()
    items: list[ShownRelay]


@router.get("/relays", summary="How do the relays stand?", **tells(ShownRelays))
def relays(request: Request, _caller: Reader) -> Response:
    """What the last runs found: no relay is asked. A relay that no run has found away is `closed`."""
    return json_response({"items": [of_relay_standing(one) for one in parts_of(request).operating.show_relays()]})
