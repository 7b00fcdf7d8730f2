"""``/api/bulk``: an act on all reservations of a filter. The first call counts them, the second does it."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from itsdangerous import BadSignature, SignatureExpired
from pydantic import BaseModel, Field, create_model
from starlette.responses import Response

from mailbatch.application.looking.filters import FIELDS, read_filter
from mailbatch.domain.act import Act
from mailbatch.interfaces.http.auth import AccessGate, Operator, gate_of
from mailbatch.interfaces.http.openapi import ACTING, tells
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import parts_of
from mailbatch.interfaces.http.responses import json_response
from mailbatch.interfaces.http.schema import shape

if TYPE_CHECKING:
    from collections.abc import Mapping

router = APIRouter(prefix="/api/bulk", tags=["reservations"])

CONFIRM_WITHIN = 300
"""Seconds during which a preview can be confirmed."""


_FIELDS: Any = dict.fromkeys(FIELDS, (str | None, None))


class FilterIn(create_model("FilterIn", **_FIELDS)):  # type: ignore[misc] # mypy cannot see the fields
    """The filter: which reservations. The fields are those of the list's query."""

    model_config = shape({"status": "failed", "reply": "4xx", "since": "1h"})


class BulkIn(BaseModel):
    """A filter. Without ``confirm`` the call changes nothing and returns how many reservations it would change."""

    model_config = shape({"filter": {"status": "failed", "reply": "4xx", "since": "1h"}})
    filter: FilterIn
    confirm: str | None = Field(None, max_length=2000, description="From the preview; good for five minutes.")


class BulkPreview(BaseModel):
    """How many reservations the act would change."""

    model_config = shape({"affects": 1204, "exact": True, "confirm": "eyJhY3Qi…"})
    affects: int
    exact: bool = Field(description="False: there may be more than this.")
    confirm: str = Field(description="Send it with the same filter within five minutes to do it.")


class BulkDone(BaseModel):
    """How many reservations the act changed."""

    model_config = shape({"changed": 1204, "left": {"pending": 3}})
    changed: int
    left: dict[str, int] = Field(
        description="How many were not changed, by state: their state changed meanwhile, or they are overdue."
    )


_BOTH = tells(BulkDone, *ACTING, HTTPStatus.CONFLICT)
_BOTH["responses"][200] = {
    "description": "Without `confirm` the preview, with it the result.",
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
    """Call it first without `confirm`: it changes nothing and counts. Then call it with the `confirm` that it returned.

    `requeue` and `delete` need a `status` in the filter. Times such as `1h` count back from the preview.
    """
    acting, given = parts_of(request).acting.act, body.filter.model_dump(exclude_none=True)
    if body.confirm is None:
        which = read_filter(given, datetime.now(UTC))
        found = acting.count(act, which)
        return json_response(
            {"affects": found.many, "exact": found.exact, "confirm": token(gate_of(request), act, given)}
        )
    which = read_filter(given, confirmed(gate_of(request), body.confirm, act, given))
    done = acting.on_all(caller.actor, act, which)
    return json_response({"changed": done.changed, "left": {status.value: n for status, n in done.left.items()}})


def token(gate: AccessGate, act: Act, given: Mapping[str, str]) -> str:
    """Return the token that confirms only ``act`` on the filter ``given``, for ``CONFIRM_WITHIN`` seconds."""
    signed = gate.signer("bulk").dumps([act.value, dict(sorted(given.items()))])
    return signed if isinstance(signed, str) else signed.decode()


def confirmed(gate: AccessGate, confirm: str, act: Act, given: Mapping[str, str]) -> datetime:
    """Return the time of the preview that gave the token ``confirm``. Raises ``Problem`` for any other token."""
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
