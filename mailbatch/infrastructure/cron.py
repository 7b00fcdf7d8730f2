"""When ticks come: the only cron arithmetic of mailbatch, so that no two parts disagree when the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from mailbatch.domain.schedule import Cron, Every

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.domain.schedule import Schedule

_GAPS = 10
"""So many ticks ahead are looked at to find how near two of them can be."""
_SECOND, _MINUTE, _WEEK = timedelta(seconds=1), timedelta(minutes=1), timedelta(weeks=1)
_WEEKS_AHEAD = 53
_LONGEST_CHANGE = timedelta(hours=2)
"""By so much clocks are changed at most."""
_ANY_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_FARTHEST = timedelta(days=365 * 60)
"""How far back a tick is looked for: 29 February on a given weekday comes once in 40 years at the longest."""


def ensure_fires(when: Schedule) -> None:
    """Raise ``ValueError`` if ``when`` is a cron line that cannot be read or that never fires."""
    if isinstance(when, Cron):
        try:
            # CronSim reads six fields with the seconds first, as we do.
            next(CronSim(when.line, _ANY_DAY))
        except (CronSimError, StopIteration) as error:
            raise ValueError(f"is no cron line that ever fires ({str(error) or 'no such date'})") from error


def following(when: Schedule, after: datetime) -> datetime:
    """The first tick later than ``after`` (aware), in UTC; at least the next full second of a cron line.

    A cron time of day that the clocks jump over is taken at the first minute after the jump, and one that comes twice
    the first time only; a line whose hours or minutes begin with ``*`` follows the time that really passes (cron(8)).
    """
    match when:
        case Every(seconds):
            return after.astimezone(UTC) + timedelta(seconds=seconds)
        case Cron(line, timezone):
            return next(_cron(line, ZoneInfo(timezone), after))


def shortest_gap(when: Schedule, after: datetime) -> float:
    """Seconds between two ticks where they are nearest, as far as the next ten tell; more than 0."""
    return min(_gaps(when, after))


def longest_gap(when: Schedule, after: datetime) -> float:
    """Seconds between two ticks where they are farthest from each other, as far as the next ten tell."""
    return max(_gaps(when, after))


def back(when: Schedule, now: datetime, ticks: int) -> datetime:
    """The point in time since which there should have been ``ticks`` ticks at least, up to ``now``."""
    match when:
        case Every(seconds):
            return now - timedelta(seconds=seconds * ticks)
        case Cron():
            tick = _last(when, now.astimezone(UTC))
            for _ in range(ticks - 1):
                tick = _last(when, tick - _SECOND)
            return tick


def _gaps(when: Schedule, after: datetime) -> list[float]:
    if isinstance(when, Every):
        return [when.seconds]
    ticks = islice(_cron(when.line, ZoneInfo(when.timezone), after), _GAPS + 1)
    return [(later - earlier).total_seconds() for earlier, later in pairwise(ticks)]


def _last(when: Cron, until: datetime) -> datetime:
    """The last tick up to ``until``, found by asking what follows earlier and earlier points in time."""
    end = until.replace(microsecond=0)
    span = _MINUTE
    while following(when, end - span) > end and span < _FARTHEST:
        span *= 2
    low, high = end - span, end  # a tick lies in (low, end], and none in (high, end]
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        low, high = (middle, high) if following(when, middle) <= end else (low, middle)
    return following(when, low)


def _cron(line: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """The ticks of ``line`` later than ``after``, in UTC, each later than the one before."""
    minute, hour = line.split()[-5:-3]
    follows_real_time = minute.startswith("*") or hour.startswith("*")
    last = after
    for tick in (_real if follows_real_time else _by_the_clock)(line, zone, after):
        # Several times of day that the clocks jump over are one and the same moment.
        if tick > last:
            yield tick
            last = tick


def _by_the_clock(line: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Each time that a clock in ``zone`` shows, once. CronSim has this rule for lines of five fields only."""
    start = after.astimezone(UTC)
    if _offset(start - _LONGEST_CHANGE, zone) != _offset(start, zone):
        # Times that the clocks have just jumped over may still be to come.
        start -= _LONGEST_CHANGE
    for wall in CronSim(line, (start + _offset(start, zone)).replace(tzinfo=None)):
        yield _first_real(wall, zone)


def _first_real(wall: datetime, zone: ZoneInfo) -> datetime:
    """The point in time at which a clock in ``zone`` first shows ``wall``, or the first minute behind a gap."""
    while True:
        tick = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if tick.astimezone(zone).replace(tzinfo=None) == wall:
            return tick
        wall += _MINUTE


def _real(line: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Each moment at which a clock in ``zone`` shows a time of ``line``: twice in an hour that comes twice.

    It goes from one change of the clocks to the next: between two of them a clock runs as time does. (CronSim by itself
    loses ticks where the clocks change by half an hour.)
    """
    start = after.astimezone(UTC)
    while True:
        change = _next_change(start, zone)
        offset = _offset(start, zone)
        for wall in CronSim(line, (start + offset).replace(tzinfo=None)):
            tick = wall.replace(tzinfo=UTC) - offset
            if tick >= change:
                break
            yield tick
        else:
            return
        # CronSim begins behind the second that it is given.
        yield from _at(line, change, zone)
        start = change


def _at(line: str, moment: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    wall = (moment + _offset(moment, zone)).replace(tzinfo=None)
    if next(CronSim(line, wall - _SECOND)) == wall:
        yield moment


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _next_change(start: datetime, zone: ZoneInfo) -> datetime:
    """The first second after ``start`` with another offset from UTC; or a year later, where the clocks never change."""
    offset = _offset(start, zone)
    low = start.replace(microsecond=0)
    for _ in range(_WEEKS_AHEAD):
        high = low + _WEEK
        if _offset(high, zone) != offset:
            break
        low = high
    else:
        return low
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        low, high = (middle, high) if _offset(middle, zone) == offset else (low, middle)
    return high
