"""Read what a column holds, whatever it is: one function for each kind of column.

Any program may write a row, and SQLite keeps any value in any column. What cannot be read becomes a value that can:
one row must not keep the others from being sent or shown. Nothing here raises.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from uuid import UUID

from mailbatch.domain.limits import EARLIEST, LAST, LATEST
from mailbatch.domain.moment import OddMoment

if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGEST = 2**53
_LONGEST_CODE = 999
_MOST_DIGITS = 4_300
"""Digits that a number may have when it is written out."""
_FORM = len("2026-12-01 09:00:00.000")


def text(value: Any) -> str | None:
    """A text column of SQLite: bytes are read as UTF-8; those that are none come as lone surrogates."""
    if type(value) is str or value is None:
        return value
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def octets(value: Any) -> bytes | None:
    """A column of bytes: a text of SQLite is read as its UTF-8, a number as its digits."""
    if type(value) is bytes or value is None:
        return value
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return (text(value) or "").encode("utf-8", "surrogateescape")


def whole(value: Any) -> int | None:
    """An integer column of SQLite: what is no number is 0, as in SQLite's own arithmetic."""
    if type(value) is int or value is None:
        return value
    # A float may be larger than any integer that the database takes back.
    return int(min(max(value, -_LARGEST), _LARGEST)) if isinstance(value, float) and not math.isnan(value) else 0


def number(value: Any) -> float | None:
    """A column of floats: what is not finite, or no number, is not known."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def guid(value: Any) -> Any:
    """An id in SQLite: a UUID, or else its text as it is."""
    if value is None or isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        return (text(value) or "").encode("utf-8", "backslashreplace").decode()


def moment(value: Any) -> datetime | None:
    """A point in time, in UTC and within 1970–9999; what is no time is 1970."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC) if EARLIEST <= value < LATEST else _within(value, value.isoformat())
    try:
        when = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return OddMoment.near(EARLIEST, value)
    if when.tzinfo is None and len(value) == _FORM and value[10] == " ":
        return _within(when.replace(tzinfo=UTC), value)
    return OddMoment.near(_aware(when), value)


def far(stored: str) -> OddMoment:
    """A point in time of PostgreSQL that Python cannot read: infinity, a year before 1 or from 10000."""
    before = stored.startswith("-") or stored.endswith("BC")
    return OddMoment.near(EARLIEST if before else LAST, stored)


def read_json(value: Any) -> Any:
    """A JSON column. What Python cannot read (5,000 digits, 2,000 levels) comes back as the text that it is."""
    source = text(value)
    try:
        return _JSON.decode(source or "")
    except (ValueError, RecursionError):
        return source


def read_json_or_null(value: Any) -> Any:
    """The same; NULL is None."""
    return None if value is None else read_json(value)


def verdicts(value: Any) -> dict[str, dict[str, Any]] | None:
    """Recipient to ``kind``, ``code`` and ``text``; entries of another shape are left out."""
    if not isinstance(value, dict):
        return None
    return {to: _verdict(v) for to, v in value.items() if isinstance(v, dict) and isinstance(v.get("kind"), str)}


def lines(value: Any) -> list[str]:
    """A list of texts."""
    return [_told(one) for one in value] if isinstance(value, list) else [_told(value)]


def members(value: Any) -> dict[str, Any] | None:
    """A JSON object; what is none is a member of one."""
    return value if isinstance(value, dict) or value is None else {"value": value}


def _verdict(v: Mapping[str, Any]) -> dict[str, Any]:
    code, said = v.get("code"), v.get("text")
    return {
        "kind": v["kind"],
        "code": code if type(code) is int and 0 <= code <= _LONGEST_CODE else 0,
        "text": "" if said is None else _told(said),
    }


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _within(when: datetime, stored: Any) -> datetime:
    try:
        return when.astimezone(UTC) if EARLIEST <= when < LATEST else OddMoment.near(when, stored)
    except OverflowError:
        return far(stored)


def _aware(when: datetime) -> datetime:
    try:
        return when.astimezone(UTC) if when.tzinfo is not None else when.replace(tzinfo=UTC)
    except OverflowError:
        return EARLIEST


def _as_text(constant: str) -> str:
    """NaN, Infinity and 1e999 are no JSON, and nobody else could read them."""
    return constant


def _fraction(digits: str) -> float | int | str:
    """Read a number with a point or an exponent; one that no float can hold is its text.

    PostgreSQL writes 1e2 out as 100 when it stores it; here SQLite's text becomes the same number.
    """
    value = float(digits) + 0.0  # no -0.0, which PostgreSQL does not have
    if not math.isfinite(value):
        return digits
    if ("e" in digits or "E" in digits) and _written_out(digits).lstrip("-").isdigit():
        return int(_written_out(digits))
    return value


def _written_out(digits: str) -> str:
    """Write a finite number without its exponent, unless that is so small that nobody could hold the zeros."""
    try:
        number = Decimal(digits)
    except InvalidOperation:
        return digits
    return format(number, "f") if abs(number.adjusted()) < _MOST_DIGITS else digits


_JSON = json.JSONDecoder(parse_float=_fraction, parse_constant=_as_text)
