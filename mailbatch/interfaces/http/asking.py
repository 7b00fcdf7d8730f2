"""What routes ask of a request: the parts, a filter, a place in a list, a body in JSON."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from uuid import UUID

from fastapi import Depends, Query, Request

from mailbatch.application.filters import read_filter
from mailbatch.application.operating_ports import Selection
from mailbatch.domain.moment import OddMoment
from mailbatch.domain.reservation import EARLIEST, LATEST, Status
from mailbatch.interfaces.http.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailbatch.bootstrap import Parts

_LONGEST_CURSOR = 500
_CUT = 36
"""Characters of a text in a cursor: those of an id."""


def parts_of(request: Request) -> Parts:
    """The parts of this process; their database must have its tables."""
    parts: Parts = request.app.state.parts
    return parts


def selection(
    status: Annotated[str | None, Query(description="One state.", examples=["failed"])] = None,
    tag: Annotated[str | None, Query(description="Exactly this tag.", examples=["spring"])] = None,
    to: Annotated[str | None, Query(description="Part of the recipients' text, in any case.")] = None,
    since: Annotated[
        str | None,
        Query(
            description="ISO 8601 with its zone, or how long ago (`15m`, `1h`, `2d`): when a finished one was "
            "finished, when any other was made.",
            examples=["1h"],
        ),
    ] = None,
    until: Annotated[str | None, Query(description="As `since`; that moment itself is not meant.")] = None,
    reply: Annotated[
        str | None, Query(description="What the relay said last: `4xx`, `5xx`, `550`, or `none`.", examples=["4xx"])
    ] = None,
    run: Annotated[str | None, Query(description="What this run had in hand last, or put off.")] = None,
) -> Selection:
    """The filter of a list."""
    given = {"status": status, "tag": tag, "to": to, "since": since, "until": until, "reply": reply, "run": run}
    return read_filter(given, datetime.now(UTC))


Filter = Annotated[Selection, Depends(selection)]


async def json_body(request: Request) -> Any:
    """The body as JSON; numbers that JSON does not know are refused."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON, with Content-Type: application/json")
    try:
        return json.loads(await request.body(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {error}") from error


JsonBody = Annotated[Any, Depends(json_body)]


# --- places in lists ---


def cursor_of(row: Mapping[str, Any], *names: str) -> str:
    """A place in a list, behind ``row``: opaque, for nobody shall build one."""
    values = [_place(row[name]) for name in names]
    return (
        base64.urlsafe_b64encode(json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")).decode().rstrip("=")
    )


def _place(value: Any) -> Any:
    if isinstance(value, OddMoment) and value.stored is not None:
        stored = value.stored
        # A text that others wrote may be long: cut, it sorts before itself, and the list goes on behind its like.
        return {"hex": stored[:_CUT].hex()} if isinstance(stored, bytes) else {"stored": _cut(stored)}
    return value.isoformat() if isinstance(value, datetime) else value and _cut(str(value))


def _cut(value: Any) -> Any:
    return value[:_CUT] if isinstance(value, str) else value


def row_of(cursor: str | None, *names: str) -> dict[str, Any] | None:
    """The row behind which the list goes on. Raises ``Problem`` for what is no cursor of ours."""
    if not cursor:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
        row = {name: _value(name, value) for name, value in zip(names, values, strict=True)}
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "cursor: take it from `next` of the page before") from error
    return row


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, dict):
        return OddMoment.near(EARLIEST, bytes.fromhex(value["hex"]) if "hex" in value else value["stored"])
    if name in {"id", "run_id"}:
        return _id(str(value))
    if name == "status":
        return Status(value)
    if name == "after":
        return min(int(value), 2**31 - 1)
    when = datetime.fromisoformat(value)
    if when.tzinfo is None or not EARLIEST <= when < LATEST:
        raise ValueError(value)
    return when


def _id(text: str) -> UUID | str:
    """On SQLite an id may be any text."""
    try:
        return UUID(text)
    except ValueError:
        return text


Cursor = Annotated[
    str | None, Query(max_length=_LONGEST_CURSOR, description="`next` of the page before; without it, the first page.")
]
Limit = Annotated[int, Query(ge=1, le=500, description="Rows of a page.")]


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number that JSON knows")
