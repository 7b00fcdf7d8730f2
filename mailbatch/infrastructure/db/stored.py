"""Reads the value of a column, even an unexpected one: one function for each kind of column.

Any program may write a row, and SQLite stores any value in any column. A value that cannot be read is replaced by one
that can, because one bad row must not keep other rows from being sent or shown. No function here raises.
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
"""Digits that a number may have when it is written without an exponent."""
_FORM = len("2026-12-01 09:00:00.000")


def text(value: Any) -> str | None:
    """Read a text column of SQLite: bytes are decoded as UTF-8, and those that are not UTF-8 become lone surrogates."""
    if type(value) is str or value is None:
        return value
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def octets(value: Any) -> bytes | None:
    """Read a column of bytes. SQLite may return a text, which is encoded as UTF-8, or a number: its digits are."""
    if type(value) is bytes or value is None:
        return value
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return (text(value) or "").encode("utf-8", "surrogateescape")


def whole(value: Any) -> int | None:
    """Read an integer column of SQLite: a value that is not a number is 0, as in SQLite's own arithmetic."""
    if type(value) is int or value is None:
        return value
    # A float may be larger than the largest integer that the database can store.
    return int(min(max(value, -_LARGEST), _LARGEST)) if isinstance(value, float) and not math.isnan(value) else 0


def number(value: Any) -> float | None:
    """Read a float column: a value that is not a finite number is None."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def guid(value: Any) -> Any:
    """Read an id in SQLite: a UUID, or the text itself if it is not a UUID."""
    if value is None or isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        return (text(value) or "").encode("utf-8", "backslashreplace").decode()


def moment(value: Any) -> datetime | None:
    """Read a time as UTC. One outside 1970–9999 becomes the nearest one inside; another value becomes 1970."""
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
    """Read a point in time of PostgreSQL that Python cannot represent: infinity, or a year before 1 or after 9999."""
    before = stored.startswith("-") or stored.endswith("BC")
    return OddMoment.near(EARLIEST if before else LAST, stored)


def read_json(value: Any) -> Any:
    """Read a JSON column. If Python cannot decode it (5,000 digits, 2,000 levels), return its source text."""
    source = text(value)
    try:
        return _JSON.decode(source or "")
    except (ValueError, RecursionError):
        return source


def read_json_or_null(value: Any) -> Any:
    """Read a JSON column; return None for NULL."""
    return None if value is None else read_json(value)


def verdicts(value: Any) -> dict[str, dict[str, Any]] | None:
    """Read ``verdicts``: ``kind``, ``code`` and ``text`` by recipient. Entries of another form are left out."""
    if not isinstance(value, dict):
        return None
    return {to: _verdict(v) for to, v in value.items() if isinstance(v, dict) and isinstance(v.get("kind"), str)}


def lines(value: Any) -> list[str]:
    """Read a list of texts. An element that is not a text becomes its JSON; a single value becomes a list of one."""
    return [_told(one) for one in value] if isinstance(value, list) else [_told(value)]


def members(value: Any) -> dict[str, Any] | None:
    """Read a JSON object. Another value becomes the object ``{"value": value}``."""
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
    """Return ``NaN`` or ``Infinity`` as text: they are not JSON, and other programs cannot read them."""
    return constant


def _fraction(digits: str) -> float | int | str:
    """Read a number with a point or an exponent; return its text if it is too large for a float.

    PostgreSQL stores 1e2 as 100, and SQLite stores the text. Here both become the same number.
    """
    value = float(digits) + 0.0  # no -0.0, which PostgreSQL does not have
    if not math.isfinite(value):
        return digits
    if ("e" in digits or "E" in digits) and _written_out(digits).lstrip("-").isdigit():
        return int(_written_out(digits))
    return value


def _written_out(digits: str) -> str:
    """Return a finite number without an exponent; unchanged if that would need ``_MOST_DIGITS`` digits or more."""
    try:
        number = Decimal(digits)
    except InvalidOperation:
        return digits
    return format(number, "f") if abs(number.adjusted()) < _MOST_DIGITS else digits


_JSON = json.JSONDecoder(parse_float=_fraction, parse_constant=_as_text)
