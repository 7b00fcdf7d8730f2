"""Reads a request: the filter, the place in a list, the JSON body, and the parts of the process."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import AfterValidator

from mailbatch.application.looking.filters import FIELDS, read_filter
from mailbatch.application.ports.stores import PATIENCE
from mailbatch.domain.errors import StoreError
from mailbatch.domain.job_name import MUST_BE, is_job_name
from mailbatch.domain.limits import EARLIEST, LATEST
from mailbatch.domain.moment import OddMoment
from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import ReservationPlace, ReservationSummary, Row, as_dict, names_of
from mailbatch.domain.selection import Selection
from mailbatch.interfaces.http.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailbatch.application.looking.filters import FilterField
    from mailbatch.application.ports.stores import Reservations
    from mailbatch.bootstrap import Parts

T = TypeVar("T")
P = TypeVar("P", bound=Row)

_LONGEST_CURSOR = 500
_CUT = 36
"""Characters of a text in a cursor: those of an id."""
_LAST_INDEX = 2**31 - 1


def parts_of(request: Request) -> Parts:
    """Return the parts of this process."""
    parts: Parts = request.app.state.parts
    return parts


def selection(**given: str | None) -> Selection:
    """Return the filter of a list: one parameter for each of ``FIELDS``. Raises ``InvalidReservation``."""
    return read_filter(given, datetime.now(UTC))


def _query_of(field: FilterField) -> Parameter:
    query = Query(description=field.description, examples=[field.example] if field.example else None)
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, query])


# FastAPI reads the parameters of a dependency from its signature.
selection.__signature__ = Signature([_query_of(field) for field in FIELDS.values()])  # type: ignore[attr-defined]
Filter = Annotated[Selection, Depends(selection)]


def media_type(request: Request) -> str:
    """Return the type of the body in lower case, without parameters; empty if the request has none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    """Return whether bodies of this type are JSON."""
    return kind == "application/json" or kind.endswith("+json")


async def json_body(request: Request) -> Any:
    """Return the body, read as JSON. Raises ``Problem`` for anything else, and for NaN and Infinity."""
    if not is_json(media_type(request)):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON, with Content-Type: application/json")
    try:
        return json.loads(await request.body(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {error}") from error


JsonBody = Annotated[Any, Depends(json_body)]


# --- places in lists ---


def cursor_of(row: object, place: type[Row]) -> str:
    """Return the place behind ``row`` in a list as text: opaque, so that nobody builds one.

    ``row`` has the fields of ``place``.
    """
    values = [_place(getattr(row, name)) for name in names_of(place)]
    return (
        base64.urlsafe_b64encode(json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")).decode().rstrip("=")
    )


def _place(value: Any) -> Any:
    if isinstance(value, OddMoment) and value.stored is not None:
        stored = value.stored
        # A text from other programs may be long. A cut text sorts before the whole: the list may show the row again.
        return {"hex": stored[:_CUT].hex()} if isinstance(stored, bytes) else {"stored": _cut(stored)}
    return value.isoformat() if isinstance(value, datetime) else value and _cut(str(value))


def _cut(value: Any) -> Any:
    return value[:_CUT] if isinstance(value, str) else value


def place_of(cursor: str | None, place: type[P]) -> P | None:
    """Return the place behind which the list continues. Raises ``Problem`` if ``cursor`` is not one of ours."""
    if not cursor:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
        return place(**{name: _READ[name](value) for name, value in zip(names_of(place), _listed(values), strict=True)})
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _no_cursor() from error


def page_of(
    read: Callable[[P | None, int], Iterable[T]], cursor: str | None, place: type[P], limit: int
) -> tuple[list[T], str | None]:
    """Return a page of at most ``limit`` rows, and the cursor of the next one; None at the end.

    ``read`` takes the place behind which it begins, and how many rows it returns at most. Raises ``Problem``
    if ``cursor`` is not one of ours.
    """
    after = place_of(cursor, place)
    try:
        rows = list(read(after, limit + 1))
    except StoreError as error:
        # SQLite may hold any value in place of a time, PostgreSQL cannot read it: this cursor is not from PostgreSQL.
        if (
            error.transient
            or after is None
            or not any(isinstance(value, OddMoment) for value in as_dict(after).values())
        ):
            raise
        raise _no_cursor() from error
    return rows[:limit], cursor_of(rows[limit - 1], place) if len(rows) > limit else None


def searched(
    reservations: Reservations, which: Selection, cursor: str | None, limit: int
) -> tuple[list[ReservationSummary], str | None, ReservationPlace | None]:
    """Return a page of reservations, the cursor of the next one, and where it stopped looking if its time was up."""
    further: ReservationPlace | None = None

    def read(after: ReservationPlace | None, most: int) -> list[ReservationSummary]:
        nonlocal further
        found = reservations.search(which, ReservationSummary, after, most, PATIENCE)
        further = found.further
        return found.rows

    rows, following = page_of(read, cursor, ReservationPlace, limit)
    return rows, following or (cursor_of(further, ReservationPlace) if further else None), further


def _no_cursor() -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "cursor: take it from `next` of the page before")


def _listed(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise TypeError(values)
    return values


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _id(value: Any) -> UUID | str:
    """Read an id; on SQLite it may be any text."""
    text = _text(value)
    try:
        return UUID(text)
    except ValueError:
        return text


def _index(value: Any) -> int:
    text = str(value)
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(value)
    return min(int(text), _LAST_INDEX)


def _moment(value: Any) -> datetime:
    if isinstance(value, dict):
        return _odd_moment(**value)
    when = datetime.fromisoformat(_text(value))
    if when.tzinfo is None or not EARLIEST <= when < LATEST:
        raise ValueError(value)
    # PostgreSQL takes no offset above 16 hours.
    return when.astimezone(UTC)


def _odd_moment(*, hex: str | None = None, stored: Any = None) -> OddMoment:  # noqa: A002 - its name in a cursor
    """Return what a database holds in place of a time: bytes, a text, or a number in the range of SQLite."""
    if hex is not None and stored is None:
        return OddMoment.near(EARLIEST, bytes.fromhex(hex))
    is_number = type(stored) in {int, float} and -(2**63) <= stored < 2**63
    if hex is not None or not (is_number or isinstance(stored, str)):
        raise ValueError(stored)
    return OddMoment.near(EARLIEST, stored)


def _moment_or_none(value: Any) -> datetime | None:
    return None if value is None else _moment(value)


_READ: dict[str, Callable[[Any], Any]] = {
    "at": _moment,
    "created_at": _moment,
    "finished_at": _moment_or_none,
    "id": _id,
    "index": _index,
    "run_id": _id,
    "started_at": _moment,
    "status": Status,
}
"""How to read each field of a place. Only ``finished_at`` may be null: not every mail is finished."""


def _job(name: str) -> str:
    if not is_job_name(name):
        raise ValueError(f"must be {MUST_BE}")
    return name


JobName = Annotated[
    str,
    AfterValidator(_job),
    Query(description="Which job: `send-all`, `purge`, or one of your own.", examples=["send-all"]),
]
Cursor = Annotated[
    str | None, Query(max_length=_LONGEST_CURSOR, description="`next` of the page before; without it, the first page.")
]
Limit = Annotated[int, Query(ge=1, le=500, description="Rows of a page.")]


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number that JSON knows")
