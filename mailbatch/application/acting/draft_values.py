"""Turns the texts and JSON values of a record into the typed values of a draft."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from mailbatch.application.acting.columns import COLUMNS, OWN, meant
from mailbatch.application.acting.reserve import Draft
from mailbatch.domain.address_list import address_list
from mailbatch.domain.checks import time_problems
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.redaction.lines import quoted
from mailbatch.domain.reservation import MAIL_FIELDS, Mail

if TYPE_CHECKING:
    from collections.abc import Mapping

_LISTS = frozenset({"recipients", "cc", "bcc", "reply_to"})
_OBJECTS = frozenset({"context", "headers"})
_FILES = "attachments"
_TIMES = frozenset({"scheduled_at", "expires_at"})
_NOT_TEXTS = _OBJECTS | _TIMES | {"id", "priority", _FILES}
_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")
_LONGEST_SHOWN = 60


def read_time(name: str, text: str) -> datetime:
    """Read a point in time in ISO 8601 with its offset from UTC; ``name`` stands in the error.

    Raises:
        InvalidReservation: which says how to write it.
    """
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidReservation(
            [f"{name}: {shown(text)} is no time in ISO 8601 up to the year 9999; write 2026-12-24T09:00:00+09:00"]
        ) from None
    if problems := list(time_problems(name, when)):
        raise InvalidReservation(problems)
    return when


def read_object(name: str, text: str) -> dict[str, Any]:
    """Read a JSON object; ``name`` stands in the error.

    Raises:
        InvalidReservation: if ``text`` is something else.
    """
    try:
        value = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidReservation([f"{name}: {shown(text)} is no JSON object ({error})"]) from None
    if not isinstance(value, dict):
        raise InvalidReservation([f'{name}: {shown(text)} is no JSON object; write {{"name": "value"}}'])
    return value


def read_draft(values: Any) -> Draft:
    """Make a draft of one JSON object, as of a line of JSON Lines.

    Raises:
        InvalidReservation: with one line for each thing that is wrong.
    """
    if not isinstance(values, dict):
        raise InvalidReservation(['is no JSON object; write {"recipients": …}'])
    if reasons := [not_a_column(name) for name in values if name not in COLUMNS]:
        raise InvalidReservation(reasons)
    return make_draft(values, {})


def make_draft(given: Mapping[str, Any], variables: Mapping[str, Any]) -> Draft:
    """Make a draft of the values ``given`` by column; ``variables`` go into its context.

    Raises:
        InvalidReservation: with one line for each value that has not the type of its column.
    """
    values: dict[str, Any] = {}
    reasons: list[str] = []
    for name, value in given.items():
        # An empty text means that nothing is given; where a text may be empty, the check of the reservation decides.
        if value is None or (value == "" and name in _NOT_TEXTS):
            continue
        try:
            values[name] = _typed(name, value)
        except InvalidReservation as error:
            reasons += error.problems
    if reasons:
        raise InvalidReservation(reasons)
    if variables:
        values["context"] = {**variables, **values.get("context", {})}
    mail = Mail(**{"recipients": "", **{name: values.pop(name) for name in MAIL_FIELDS if name in values}})
    return Draft(mail=mail, **values)


def not_a_column(name: str) -> str:
    """Return the problem of a key that is no column to import."""
    if name in OWN:
        return f"{name}: is mailbatch's own and cannot be imported"
    if column := meant(name):
        return f"{shown(name)}: is no column; did you mean {column}? What a template needs belongs into context"
    return f"{shown(name)}: is no column; what a template needs belongs into context"


def refuse_constant(name: str) -> NoReturn:
    """Refuse what Python's reader of JSON accepts and JSON does not have: NaN and Infinity. Raises ``ValueError``."""
    raise ValueError(f"{name} is no JSON")


def shown(text: str) -> str:
    """Return the beginning of ``text`` in quotes, on one line."""
    start = quoted(text, _LONGEST_SHOWN)
    return f"{start}…" if len(text) > _LONGEST_SHOWN else start


def _typed(name: str, value: Any) -> Any:
    if name in _LISTS and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return address_list(name, value)
    if name in _OBJECTS and isinstance(value, dict):
        return value
    if name == _FILES and isinstance(value, list):
        return _files(value)
    if name == "priority" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise InvalidReservation([f"{name}: {shown(json.dumps(value))} is not {_expected(name)}"])
    return _from_text(name, value)


def _from_text(name: str, text: str) -> Any:
    if name in _OBJECTS:
        return read_object(name, text)
    if name in _TIMES:
        return read_time(name, text)
    if name == _FILES:
        return _files(_listed(text))
    if name == "priority":
        if not _INTEGER.fullmatch(text.strip()):
            raise InvalidReservation([f"priority: {shown(text)} is no integer"])
        return int(text)
    if name == "id":
        try:
            return UUID(text.strip())
        except ValueError:
            raise InvalidReservation([f"id: {shown(text)} is no UUID"]) from None
    return text


def _files(given: list[Any]) -> list[Any]:
    """Return the objects of the column ``attachments``: a text is the path of a file."""
    return [{"path": one.strip()} if isinstance(one, str) else one for one in given]


def _listed(text: str) -> list[Any]:
    """Read a list of files: a JSON array, or paths with semicolons between. Raises ``InvalidReservation``."""
    if not text.lstrip().startswith("["):
        return [path for path in text.split(";") if path.strip()]
    try:
        found: list[Any] = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidReservation([f"{_FILES}: {shown(text)} is no JSON array ({error})"]) from None
    return found


def _expected(name: str) -> str:
    if name == _FILES:
        return "a list of files"
    if name in _OBJECTS:
        return "a JSON object"
    return "an integer" if name == "priority" else "text"
