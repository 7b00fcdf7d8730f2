"""``/api/bulk``: one thing to all that a filter means. The first call says to how many, the second does it."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from itsdangerous import BadSignature, SignatureExpired
from pydantic import BaseModel, Field
from starlette.responses import Response

from mailbatch.application.looking.filters import read_filter
from mailbatch.domain.act import Act
from mailbatch.interfaces.http.auth import Gate, Operator, gate_of
from mailbatch.interfaces.http.openapi import ACTING, tells
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import parts_of
from mailbatch.interfaces.http.responses import answer
from mailbatch.interfaces.http.schema import shape

if TYPE_CHECKING:
    from collections.abc import Mapping

router = APIRouter(prefix="/api/bulk", tags=["reservations"])

CONFIRM_WITHIN = 300
"""Seconds for which a preview may be confirmed."""


class FilterIn(BaseModel):
    """Which reservations are meant; as the query of the list."""

    model_config = shape({"status": "failed", "reply": "4xx", "since": "1h"})
    status: str | None = None
    tag: str | None = None
    to: str | None = None
    since: str | None = None
    until: str | None = None
    reply: str | None = None
    run: str | None = None


class BulkIn(BaseModel):
    """What to do to whom. Without ``confirm`` nothing is done: the answer says to how many it would be."""

    model_config = shape({"filter": {"status": "failed", "reply": "4xx", "since": "1h"}})
    filter: FilterIn
    confirm: str | None = Field(None, max_length=2000, description="From the preview; good for five minutes.")


class BulkPreview(BaseModel):
    """What would be done."""

    model_config = shape({"affects": 1204, "exact": True, "confirm": "eyJhY3Qi…"})
    affects: int
    exact: bool = Field(description="False: there may be more than were counted.")
    confirm: str = Field(description="Send it with the same filter within five minutes to have it done.")


class BulkDone(BaseModel):
    """What was done."""

    model_config = shape({"changed": 1204, "left": {"pending": 3}})
    changed: int
    left: dict[str, int] = Field(
        description="Who was left alone, by state: they had moved on meanwhile, or are overdue."
    )


_BOTH = tells(BulkDone, *ACTING, HTTPStatus.CONFLICT)
_BOTH["responses"][200] = {
    "description": "Without `confirm` the preview, with it what was done.",
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [{"$ref": "#/components/schemas/BulkPreview"}, {"$ref": "#/components/schemas/BulkDone"}]
            }
        }
    },
}


@router.post("/{act}", summary="Cancel, requeue, restore, resolve or delete many", **_BOTH)
def bulk(request: Request, caller: Operator, act: Act, body: BulkIn) -> Response:
    """First without `confirm`: nothing is done, the answer counts. Then with what it gave as `confirm`.

    `requeue` and `delete` want a `status` in the filter. Times such as `1h` count back from the preview.
    """
    acting, given = parts_of(request).acting.act, body.filter.model_dump(exclude_none=True)
    if body.confirm is None:
        which = read_filter(given, datetime.now(UTC))
        found = acting.count(act, which)
        return answer({"affects": found.many, "exact": found.exact, "confirm": token(gate_of(request), act, given)})
    which = read_filter(given, confirmed(gate_of(request), body.confirm, act, given))
    done = acting.on_all(caller.actor, act, which)
    return answer({"changed": done.changed, "left": {status.value: n for status, n in done.left.items()}})


def token(gate: Gate, act: Act, given: Mapping[str, str]) -> str:
    """What confirms ``act`` on the filter ``given``, and nothing else, for ``CONFIRM_WITHIN`` seconds."""
    signed = gate.signer("bulk").dumps([act.value, dict(sorted(given.items()))])
    return signed if isinstance(signed, str) else signed.decode()


def confirmed(gate: Gate, confirm: str, act: Act, given: Mapping[str, str]) -> datetime:
    """When the preview was, if ``confirm`` is its token. Raises ``Problem``."""
    try:
        signed, when = gate.signer("bulk").loads(confirm, max_age=CONFIRM_WITHIN, return_timestamp=True)
    except SignatureExpired as error:
        raise Problem(HTTPStatus.CONFLICT, "confirm: it is too old; ask for the preview again") from error
    except BadSignature as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "confirm: take it from the preview of this action") from error
    if signed != [act.value, dict(given)]:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "confirm: it was given for another action or filter")
    moment: datetime = when
    return moment
