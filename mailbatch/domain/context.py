"""Makes JSON of the context that a Python program gives. Types that JSON does not have become text, by one rule.

docs/reference/templates.md has the rule as a table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.redaction.lines import shown

_LARGEST_EXPONENT = 1_000


def as_json(context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``context`` in types of JSON; the same object if it has only such types already.

    ``Decimal``, ``UUID``, dates and times become text, an enum becomes its value, any mapping a dict.

    Raises:
        InvalidReservation: with one line for each value of another type, which names its place.
    """
    if _is_json(context):
        return context
    problems: list[str] = []
    try:
        made = _mapping(context, "", problems)
    except RecursionError:
        problems.append("context: cannot be written as JSON (it is nested too deeply, or holds itself)")
    if problems:
        raise InvalidReservation(problems)
    return made


def _is_json(context: Mapping[str, Any]) -> bool:
    try:
        json.dumps(context, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _mapping(values: Mapping[Any, Any], place: str, problems: list[str]) -> dict[Any, Any]:
    inside = f"{place}." if place else ""
    made = {}
    for key, value in values.items():
        where = f"{place} (a key)".strip()
        if isinstance(key, tuple | Mapping):
            problems.append(f"context: '{_cut(where)}' is {_kind(key)}; a key is a text or a number")
            continue
        name = _plain(key, where, problems)
        made[name] = _plain(value, f"{inside}{name}", problems)
    return made


def _plain(value: Any, place: str, problems: list[str]) -> Any:
    """Return the JSON value of ``value``; ``place`` is its path in the context."""
    while isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return _mapping(value, place, problems)
    if isinstance(value, list | tuple):
        return [_plain(one, f"{place}[{index}]", problems) for index, one in enumerate(value)]
    text = _text(value)
    if text is None:
        problems.append(f"context: '{_cut(place)}' is {_kind(value)}; give a text, a number, a list or a mapping")
    return text


def _text(value: Any) -> str | None:
    match value:
        case Decimal() if value.is_finite() and abs(value.adjusted()) <= _LARGEST_EXPONENT:
            return format(value, "f")
        case date() | time():  # a datetime is a date
            return value.isoformat()
        case UUID():
            return str(value)
    return None


def _kind(value: Any) -> str:
    if isinstance(value, float | Decimal):
        return f"{value!s:.20}, which is no number in JSON"
    return f"of the type {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")


def _cut(place: str) -> str:
    return shown(place, 80)
