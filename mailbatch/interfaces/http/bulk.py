"""``/api/bulk``: one thing to all that a filter means. The first call says to how many, the second does it."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from itsdangerous import BadSignature, SignatureExpired
from starlette.responses import Response

from mailbatch.application.looking.filters import read_filter
from mailbatch.domain.act import Act
from mailbatch.interfaces.http import schemas
from mailbatch.interfaces.http.auth import Gate, Operator, gate_of
from mailbatch.interfaces.http.openapi import ACTING, tells
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import parts_of
from mailbatch.interfaces.http.responses import answer

if TYPE_CHECKING:
    from collections.abc import Mapping

router = APIRouter(prefix="/api/bulk", tags=["reservations"])

CONFIRM_WITHIN = 300
"""Seconds for which a preview may be confirmed."""
_BOTH = tells(schemas.BulkDone, *ACTING, HTTPStatus.CONFLICT)
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
def bulk(request: Request, caller: Operator, act: Act, body: schemas.BulkIn) -> Response:
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
