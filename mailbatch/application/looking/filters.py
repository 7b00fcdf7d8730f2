"""The fields of a filter, and how each is read as people write it: ``status=failed``, ``reply=4xx``, ``since=1h``.

The command line makes its options of ``FIELDS``, the HTTP API its parameters and keys, the console its form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from mailbatch.application.acting.draft_values import read_time
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.redaction.lines import quoted
from mailbatch.domain.reservation import Status
from mailbatch.domain.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterField:
    """One field of a filter, with its name and its texts in every interface.

    ``name``: of the option, the parameter, the key and the input. ``attribute``: of ``Selection``. ``type``: of the
    value: ``Status``, ``UUID``, ``datetime`` or ``str``.
    Command line: ``option_help``, ``metavar``. HTTP: ``description`` (Markdown), ``example``. Console: ``label``,
    ``placeholder``, ``suggestions``; ``is_input``: false if tabs or links set the field, and the form has no input.
    """

    name: str
    attribute: str
    type: type = str
    option_help: str
    metavar: str | None = None
    description: str
    example: str | None = None
    label: str
    placeholder: str | None = None
    suggestions: tuple[str, ...] = ()
    is_input: bool = True


_FIELDS = (
    FilterField(
        name="status",
        attribute="status",
        type=Status,
        option_help="Only those in one of these states: {states}.",
        metavar="STATE",
        description="One state.",
        example="failed",
        label="Status",
        is_input=False,
    ),
    FilterField(
        name="tag",
        attribute="tag",
        option_help="Only those with this tag.",
        description="Exactly this tag.",
        example="spring",
        label="Tag",
    ),
    FilterField(
        name="to",
        attribute="to",
        option_help="Only those whose recipients contain this.",
        description="Part of the recipients' text, in any case.",
        label="Recipient",
        placeholder="a part of it",
    ),
    FilterField(
        name="since",
        attribute="since",
        type=datetime,
        option_help="Only those finished since then, or created if not finished: 1h, or ISO 8601.",
        metavar="TIME",
        description="ISO 8601 with its zone, or how long ago (`15m`, `1h`, `2d`): when a finished one was finished, "
        "when any other was made.",
        example="1h",
        label="Since",
        placeholder="1h, or a time",
        suggestions=("15m", "1h", "1d", "1w"),
    ),
    FilterField(
        name="until",
        attribute="until",
        type=datetime,
        option_help="Only those before then, as --since.",
        metavar="TIME",
        description="As `since`; that moment itself is not meant.",
        label="Until",
        placeholder="15m, or a time",
    ),
    FilterField(
        name="reply",
        attribute="reply",
        option_help="Only those whose last reply was 4xx, 5xx, 550, or none.",
        metavar="CODE",
        description="What the relay said last: `4xx`, `5xx`, `550`, or `none`.",
        example="4xx",
        label="Reply",
        placeholder="4xx, 550, none",
        suggestions=("4xx", "5xx", "550", "none"),
    ),
    FilterField(
        name="run",
        attribute="run_id",
        type=UUID,
        option_help="Only those that this run handled last, or deferred.",
        metavar="RUN",
        description="What this run had in hand last, or put off.",
        label="Run",
        is_input=False,
    ),
)
FIELDS: Mapping[str, FilterField] = {field.name: field for field in _FIELDS}
_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
# The zone of a time in a URL: a plus sign that was not escaped comes as a blank.
_BLANK_OFFSET = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")


def read_filter(given: Mapping[str, str | None], now: datetime) -> Selection:
    """Read what is given of ``FIELDS``; an empty text counts as not given.

    Raises:
        InvalidReservation: with one line for each field that is wrong.
    """
    problems: list[str] = []
    values: dict[str, object] = {}
    for field in FIELDS.values():
        text = given.get(field.name)
        if text is None or not text.strip():
            continue
        try:
            values[field.attribute] = _read(field, text, now)
        except InvalidReservation as error:
            problems += error.problems
    if problems:
        raise InvalidReservation(problems)
    return Selection(**values)  # type: ignore[arg-type] # by the names of its fields


def read_moment(name: str, text: str, now: datetime) -> datetime:
    """Read a time in ISO 8601, or how long ago it was: ``90s``, ``15m``, ``1h``, ``2d``, ``1w``.

    Raises:
        InvalidReservation: if it is neither.
    """
    if ago := _AGO.fullmatch(text.strip()):
        try:
            return now - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
        except OverflowError:
            raise InvalidReservation([f"{name}: {text.strip()} ago is before all times"]) from None
    try:
        return read_time(name, _BLANK_OFFSET.sub("+", text.strip()))
    except InvalidReservation as error:
        raise InvalidReservation([f"{error}; or how long ago: 15m, 1h, 2d"]) from None


def _read(field: FilterField, text: str, now: datetime) -> object:
    if field.type is datetime:
        return read_moment(field.name, text, now)
    try:
        return field.type(text.strip())
    except ValueError:
        raise InvalidReservation([f"{field.name}: {quoted(text, 40)} is {_expected(field)}"]) from None


def _expected(field: FilterField) -> str:
    if field.type is Status:
        return f"none of {', '.join(status.value for status in Status)}"
    return f"no id of a {field.name}"
