"""Computes when ticks come. All of mailbatch computes them here, so that all agree when the clocks change."""

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
"""How many ticks ahead are looked at to find the shortest and the longest gap."""
_SECOND, _MINUTE, _WEEK = timedelta(seconds=1), timedelta(minutes=1), timedelta(weeks=1)
_WEEKS_AHEAD = 53
_LONGEST_CHANGE = timedelta(hours=2)
"""No change of the clocks is longer."""
_ANY_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_FARTHEST = timedelta(days=365 * 60)
"""How far back a tick is searched: 29 February on a given weekday comes at least once in 40 years."""


def ensure_fires(when: Schedule) -> None:
    """Raise ``ValueError`` if ``when`` is a cron line that cannot be read or that never fires."""
    if isinstance(when, Cron):
        try:
            # CronSim reads six fields with the seconds first, as we do.
            next(CronSim(when.line, _ANY_DAY))
        except (CronSimError, StopIteration) as error:
            raise ValueError(f"is no cron line that ever fires ({str(error) or 'no such date'})") from error


def following(when: Schedule, after: datetime) -> datetime:
    """Return the first tick later than ``after`` (aware), in UTC. A cron line ticks at full seconds.

    As in cron(8): a time of day that the clocks jump over ticks at the first minute after the jump; a time of day that
    comes twice ticks only the first time; a line whose hours or minutes begin with ``*`` ignores changes of the clocks.
    """
    match when:
        case Every(seconds):
            return after.astimezone(UTC) + timedelta(seconds=seconds)
        case Cron(line, timezone):
            return next(_cron(line, ZoneInfo(timezone), after))


def shortest_gap(when: Schedule, after: datetime) -> float:
    """Return the shortest gap between two of the next ten ticks, in seconds; more than 0."""
    return min(_gaps(when, after))


def longest_gap(when: Schedule, after: datetime) -> float:
    """Return the longest gap between two of the next ten ticks, in seconds."""
    return max(_gaps(when, after))


def back(when: Schedule, now: datetime, ticks: int) -> datetime:
    """Return the latest moment since which there should have been at least ``ticks`` ticks, up to ``now``."""
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
    """Return the last tick up to ``until``; it searches by asking which tick follows ever earlier moments."""
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
    """Yield the ticks of ``line`` later than ``after``, in UTC, in ascending order."""
    minute, hour = line.split()[-5:-3]
    follows_real_time = minute.startswith("*") or hour.startswith("*")
    last = after
    for tick in (_real if follows_real_time else _by_the_clock)(line, zone, after):
        # Several times of day that the clocks jump over become the same moment.
        if tick > last:
            yield tick
            last = tick


def _by_the_clock(line: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Yield each time that a clock in ``zone`` shows, once. CronSim has this rule for lines of five fields only."""
    start = after.astimezone(UTC)
    if _offset(start - _LONGEST_CHANGE, zone) != _offset(start, zone):
        # Times that the clocks have just jumped over may still tick.
        start -= _LONGEST_CHANGE
    for wall in CronSim(line, (start + _offset(start, zone)).replace(tzinfo=None)):
        yield _first_real(wall, zone)


def _first_real(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return when a clock in ``zone`` first shows ``wall``, or the first minute after a jump over it."""
    while True:
        tick = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if tick.astimezone(zone).replace(tzinfo=None) == wall:
            return tick
        wall += _MINUTE


def _real(line: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Yield each moment at which a clock in ``zone`` shows a time of ``line``: twice in an hour that comes twice.

    It goes from one change of the clocks to the next, because between two changes a clock runs evenly. (CronSim alone
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
        # CronSim begins after the second that it is given.
        yield from _at(line, change, zone)
        start = change


def _at(line: str, moment: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    wall = (moment + _offset(moment, zone)).replace(tzinfo=None)
    if next(CronSim(line, wall - _SECOND)) == wall:
        yield moment


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _next_change(start: datetime, zone: ZoneInfo) -> datetime:
    """Return the first second after ``start`` with another offset from UTC; a year later if there is no change."""
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
