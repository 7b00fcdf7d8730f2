"""Reads what ``POST /api/reservations`` is sent: JSON, or a finished message."""

from __future__ import annotations

import binascii
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request

from mailbatch.application.acting.draft_values import read_draft
from mailbatch.domain.errors import InvalidReservation
from mailbatch.infrastructure.mime.message_envelope import message_envelope
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import is_json, json_body, media_type

if TYPE_CHECKING:
    from mailbatch.application.acting.reserve import Draft

MESSAGE = "message/rfc822"
_NO_QUERY = f"a query goes only with {MESSAGE}; write the columns into the JSON"
_WHAT = f"send JSON, with Content-Type: application/json; or a finished message, with {MESSAGE}"


async def reservation_body(request: Request) -> Any:
    """Return the JSON of the body. A message is returned as the object that has it, with its query, as bytes."""
    kind = media_type(request)
    if kind == MESSAGE:
        query = request.query_params
        given = {name: query.getlist(name) for name in query}
        return {**{name: v if len(v) > 1 else v[0] for name, v in given.items()}, "message": await request.body()}
    if not is_json(kind):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, _WHAT)
    if request.query_params:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, _NO_QUERY)
    return await json_body(request)


ReservationBody = Annotated[Any, Depends(reservation_body)]


def read_reservation(values: Any) -> Draft:
    """Make a draft of one JSON object. It goes to the recipients of its ``message``, unless it names others.

    ``message``: base64, or bytes. Raises ``InvalidReservation`` with one line for each thing that is wrong.
    """
    if not isinstance(values, dict) or "message" not in values:
        return read_draft(values)
    draft = read_draft({name: value for name, value in values.items() if name != "message"})
    if (message := values["message"]) is None:
        return draft
    envelope = message_envelope(_bytes(message), draft.mail.recipients or None)
    return replace(draft, mail=replace(draft.mail, recipients=envelope.recipients, message=envelope.message))


def _bytes(message: Any) -> bytes:
    if isinstance(message, bytes):
        return message
    if not isinstance(message, str):
        raise InvalidReservation([f"message: {type(message).__name__} is not a text in base64"])
    try:
        return binascii.a2b_base64("".join(message.split()), strict_mode=True) if message.strip() else b""
    except ValueError as error:
        raise InvalidReservation([f"message: is no base64 (RFC 4648 §4): {error}"]) from None
