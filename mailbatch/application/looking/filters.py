"""Read a filter as people write it: ``status=failed``, ``reply=4xx``, ``since=1h``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from mailbatch.application.acting.draft_values import read_time
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import Status
from mailbatch.domain.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = ("status", "tag", "to", "since", "until", "reply", "run")
_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
# A plus sign in an address that nobody has escaped.
_BLANK_OFFSET = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")


def read_filter(given: Mapping[str, str | None], now: datetime) -> Selection:
    """Read what is given of ``FIELDS``; an empty text is one that was not given.

    Raises:
        InvalidReservation: with one line for each field that is wrong.
    """
    problems: list[str] = []
    values: dict[str, object] = {}
    for name in FIELDS:
        text = given.get(name)
        if text is None or not text.strip():
            continue
        try:
            values["run_id" if name == "run" else name] = _read(name, text, now)
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


def _read(name: str, text: str, now: datetime) -> object:
    match name:
        case "since" | "until":
            return read_moment(name, text, now)
        case "status":
            try:
                return Status(text.strip())
            except ValueError:
                allowed = ", ".join(status.value for status in Status)
                raise InvalidReservation([f"status: {ascii(text)[:40]} is none of {allowed}"]) from None
        case "run":
            try:
                return UUID(text.strip())
            except ValueError:
                raise InvalidReservation([f"run: {ascii(text)[:40]} is no id of a run"]) from None
        case _:
            return text.strip()
