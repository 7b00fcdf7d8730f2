"""Hours in which some mails may be sent, and when the next of them begin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Self

from mailbatch.domain.traits import EVERY_MAIL, Match

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from mailbatch.domain.traits import Traits

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*")
_EIGHT_DAYS = range(-1, 8)


def read_days(text: str) -> frozenset[int]:
    """Read ``mon-fri``, ``sat, sun`` or ``fri-mon``; Monday is 0. Raises ``ValueError`` with what is allowed."""
    found: set[int] = set()
    for part in text.lower().split(","):
        names = [name.strip() for name in part.split("-", 1)]
        try:
            begin, end = DAYS.index(names[0]), DAYS.index(names[-1])
        except ValueError:
            raise ValueError(f"must be days such as 'mon-fri' or 'sat, sun' (got {text!r})") from None
        found.update((begin + n) % 7 for n in range((end - begin) % 7 + 1))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Hours:
    """From ``begin`` until before ``end``, by a clock on the wall. ``end`` is on the next day if it is not later."""

    begin: time
    end: time

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``08:00-18:00``; ``24:00`` is the end of the day. Raises ``ValueError`` with what is allowed."""
        wrong = ValueError(f"must be hours such as '08:00-18:00' (got {text!r})")
        if not (found := _HOURS.fullmatch(text)):
            raise wrong
        from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
        if (to_hour, to_minute) == (24, 0):
            to_hour = 0
        try:
            return cls(time(from_hour, from_minute), time(to_hour, to_minute))
        except ValueError:
            raise wrong from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours on some days of the week in which the mails of ``match`` may be sent."""

    days: frozenset[int]
    hours: Hours
    timezone: ZoneInfo
    match: Match = EVERY_MAIL

    def opens(self, now: datetime) -> datetime:
        """Return when these hours begin that end next; that is in the past while they last."""
        today = now.astimezone(self.timezone).date()
        for days in _EIGHT_DAYS:
            begin, end = self._on(today + timedelta(days=days))
            if now < end and (today + timedelta(days=days)).weekday() in self.days:
                return begin
        raise AssertionError("a week has each day")  # pragma: no cover - the reader refuses an empty list of days

    def _on(self, day: date) -> tuple[datetime, datetime]:
        """Return the hours of one day in UTC. In the night when clocks change they are longer or shorter."""
        begin = datetime.combine(day, self.hours.begin, self.timezone)
        last = day if self.hours.end > self.hours.begin else day + timedelta(days=1)
        return begin.astimezone(UTC), datetime.combine(last, self.hours.end, self.timezone).astimezone(UTC)


def not_before(windows: Sequence[Window], mail: Traits, now: datetime) -> datetime | None:
    """Return when ``mail`` may be sent, None if that is now.

    It may be sent in each of the windows that are for it, and at any time if there is none.
    """
    mine = [window.opens(now) for window in windows if window.match.fits(mail)]
    return min(mine) if mine and min(mine) > now else None
