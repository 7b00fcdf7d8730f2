"""``/api/reservations``: reserve, list, show, explain, and act on one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from mailbatch.application.acting.reserve import Draft
from mailbatch.domain.act import Act, is_done
from mailbatch.domain.errors import InvalidReservation, MailbatchError, StateConflict
from mailbatch.domain.reservation import Stored
from mailbatch.domain.rows import as_dict
from mailbatch.infrastructure.tracing.reserving import reserving_for
from mailbatch.interfaces.documents import of_reservation, of_result, result_text
from mailbatch.interfaces.http import reservation_schemas as schemas
from mailbatch.interfaces.http.auth import Caller, Operator, Reader
from mailbatch.interfaces.http.once import OnceOnly
from mailbatch.interfaces.http.openapi import ACTING, tells
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import Cursor, Filter, Limit, parts_of, searched
from mailbatch.interfaces.http.reservation_body import ReservationBody, read_reservation
from mailbatch.interfaces.http.responses import json_response

if TYPE_CHECKING:
    from mailbatch.application.ports.stores import Intake, Reservations
    from mailbatch.bootstrap.reserving import Reserving

router = APIRouter(prefix="/api/reservations", tags=["reservations"])

MOST = 500
"""Mails of one request at most."""
_ONE = (*ACTING[:1], HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)


_RESERVED = tells(
    schemas.Reserved,
    *ACTING,
    HTTPStatus.CONFLICT,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    status=HTTPStatus.CREATED,
)
_RESERVED["responses"][200] = {
    "description": "For a list; or for one mail that its key stored before.",
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [{"$ref": "#/components/schemas/ReservedMany"}, {"$ref": "#/components/schemas/Reserved"}]
            }
        }
    },
}


@router.post(
    "",
    summary="Reserve one mail, or up to 500",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "anyOf": [
                            {"$ref": "#/components/schemas/ReservationIn"},
                            {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": MOST,
                                "items": {"$ref": "#/components/schemas/ReservationIn"},
                            },
                        ]
                    }
                },
                # message/rfc822 stands in the description alone: with a second type of body here a generator of
                # Python clients writes code that does not run.
            },
        },
        "parameters": schemas.BESIDE_MESSAGE,
    },
    **_RESERVED,
)
def reserve(request: Request, _caller: Operator, once: OnceOnly, body: ReservationBody) -> Response:
    """For one object the response has its id: 201, or 200 if its `idempotency_key` stored it before.

    For a list the response is 200 with a result for each, in order. Bad mails do not stop the others. All good ones
    are stored in one transaction.

    A body of the type `message/rfc822` is a finished message. Then the query has the other columns.
    """
    parts = parts_of(request)
    if isinstance(body, list) and not 1 <= len(body) <= MOST:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"there are {len(body)} mails; send 1 to {MOST} at once")

    def store() -> tuple[int, Any]:
        with reserving_for(request.headers) as trace:
            if isinstance(body, list):
                return _reserve_many(parts.reserving, body, once, trace)
            return _reserve_one(parts.reserving, parts.stores.reservations, body, once, trace)

    return once(store)


_Trace = Mapping[str, str] | None
"""The W3C headers of the trace in which mails are reserved, if there is one."""


def _reserve_one(
    reserving: Reserving, reservations: Reservations, body: Any, once: OnceOnly, trace: _Trace
) -> tuple[int, Any]:
    draft = read_reservation(body)
    with reservations.intake() as intake:
        stored = reserving.reserve_apart(intake)(draft)
        _keep_trace(intake, [stored], trace)
        status = HTTPStatus.CREATED if stored.new else HTTPStatus.OK
        result = _result(stored, reserving.template_warning_apart(draft.mail))
        once.seal(intake, status, result)
    return status, result


def _reserve_many(reserving: Reserving, body: list[Any], once: OnceOnly, trace: _Trace) -> tuple[int, Any]:
    def seal(intake: Intake, results: Sequence[Stored | MailbatchError]) -> None:
        _keep_trace(intake, results, trace)
        once.seal(intake, HTTPStatus.OK, _results(results, warnings))

    drafts = [_read(item) for item in body]
    warnings = [reserving.template_warning_apart(draft.mail) if isinstance(draft, Draft) else None for draft in drafts]
    results = reserving.reserve_many(drafts, seal)
    return HTTPStatus.OK, _results(results, warnings)


def _keep_trace(intake: Intake, results: Sequence[Stored | MailbatchError], trace: _Trace) -> None:
    if trace:
        intake.trace([r.reservation_id for r in results if isinstance(r, Stored) and r.new], trace)


def _read(item: Any) -> Draft | MailbatchError:
    try:
        return read_reservation(item)
    except InvalidReservation as error:
        return error


def _results(results: Sequence[Stored | MailbatchError], warnings: Sequence[str | None]) -> dict[str, Any]:
    stored = [result for result in results if isinstance(result, Stored)]
    new = sum(result.new for result in stored)
    counts = {"reserved": new, "known": len(stored) - new, "refused": len(results) - len(stored)}
    return {**counts, "results": list(map(_result, results, warnings))}


def _result(result: Stored | MailbatchError, warning: str | None) -> dict[str, Any]:
    if isinstance(result, Stored):
        told = {"warnings": [warning]} if warning else {}
        return {"id": result.reservation_id, "new": result.new, **told}
    return {"problems": result.problems if isinstance(result, InvalidReservation) else [str(result)]}


@router.get("", summary="List reservations, the newest first", **tells(schemas.ReservationPage))
def list_reservations(
    request: Request, _caller: Reader, which: Filter, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Continue with the cursor in `next` until it is null. There is no total: counting millions would take too long.

    No index covers `to`, `reply`, or `tag` with another field: the search stops after half a second. Then a page may
    have fewer than `limit` rows, or none, and `next` continues where it stopped.

    With `since`, `until` or `run` finished reservations are sorted by their end, the last first.
    """
    rows, following, _ = searched(parts_of(request).stores.reservations, which, cursor, limit)
    return json_response({"items": [as_dict(row) for row in rows], "next": following})


@router.get("/{reservation_id}", summary="Show one, with its attempts", **tells(schemas.Full, HTTPStatus.NOT_FOUND))
def show(request: Request, _caller: Reader, reservation_id: UUID) -> Response:
    """All its columns, its files without their content, and its attempts.

    The accepted attempt is on the reservation itself.
    """
    operating = parts_of(request).operating
    row, attempts = operating.show_reservation(reservation_id)
    return json_response(of_reservation(row, attempts, operating.show_carried(row, row.id)))


@router.get(
    "/{reservation_id}/explain",
    summary="Explain why it was not sent yet, or how it ended",
    **tells(schemas.Explained, HTTPStatus.NOT_FOUND),
)
def explain(request: Request, _caller: Reader, reservation_id: UUID) -> Response:
    """Why it was not sent yet, or how it ended: a sentence, what to do, and the facts."""
    told = asdict(parts_of(request).operating.explain(reservation_id))
    return json_response({"id": told.pop("reservation_id"), **told})


@router.post("/{reservation_id}/cancel", summary="Cancel it", **tells(schemas.Changed, *_ONE))
def cancel(request: Request, caller: Operator, reservation_id: UUID) -> Response:
    """Once the response says cancelled, it is never sent; 409 if it is too late."""
    return _act(request, caller, Act.CANCEL, reservation_id)


@router.post("/{reservation_id}/requeue", summary="Send it again", **tells(schemas.Changed, *_ONE))
def requeue(request: Request, caller: Operator, reservation_id: UUID) -> Response:
    """From failed, in doubt or cancelled to pending; its attempts count from 0.

    Recipients that accepted it do not get it again.
    """
    return _act(request, caller, Act.REQUEUE, reservation_id)


@router.post("/{reservation_id}/restore", summary="Undo a cancellation", **tells(schemas.Changed, *_ONE))
def restore(request: Request, caller: Operator, reservation_id: UUID) -> Response:
    """From cancelled to pending. A mail that is not due yet keeps its time."""
    return _act(request, caller, Act.RESTORE, reservation_id)


@router.post("/{reservation_id}/resolve", summary="Mark it as sent", **tells(schemas.Changed, *_ONE))
def resolve(request: Request, caller: Operator, reservation_id: UUID) -> Response:
    """From in doubt to sent, if the recipient or the relay's log confirms it. To send it again, requeue it."""
    return _act(request, caller, Act.RESOLVE, reservation_id)


@router.delete("/{reservation_id}", summary="Delete it, if it is finished", **tells(schemas.Changed, *_ONE))
def delete(request: Request, caller: Operator, reservation_id: UUID) -> Response:
    """Deletes a sent, failed, cancelled or expired one with its attempts. 409 for any other."""
    return _act(request, caller, Act.DELETE, reservation_id, "; only finished ones are, so cancel it first")


def _act(request: Request, caller: Caller, act: Act, reservation_id: UUID, hint: str = "") -> Response:
    """Act on one reservation. Raises ``StateConflict`` with the reason and ``hint`` if its state does not allow it."""
    result, _ = parts_of(request).acting.act.on_one(caller.actor, act, reservation_id)
    if not is_done(act, result):
        raise StateConflict(result_text(act, result) + hint)
    return json_response(of_result(act, result))
