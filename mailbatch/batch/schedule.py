"""When the next tick comes; and the same as a schedule of Celery, which any beat scheduler can use."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from celery.schedules import BaseSchedule, schedstate
from cronsim import CronSim

from mailbatch.domain.schedule import Cron, Every, Schedule, tick_expiry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GAPS = 10
"""So many ticks ahead are looked at to find how near two of them can be."""


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


def next_after(schedule: BaseSchedule, after: datetime) -> datetime:
    """As ``following``, of any schedule of Celery, and whatever this host's clock says."""
    if isinstance(schedule, BatchSchedule):
        return following(schedule.when, after)
    theirs = copy(schedule)
    theirs.nowfun = lambda: after
    return after + theirs.remaining_estimate(after)  # type: ignore[no-any-return]


def after_tick(schedule: BaseSchedule, due: datetime, now: datetime) -> datetime:
    """The tick behind one that was due at ``due`` and is done ``now``.

    An interval counts from when the tick was due, so that latency does not add up; what was missed is not made up for.
    """
    behind_due = next_after(schedule, due)
    return behind_due if behind_due > now else next_after(schedule, now)


def shortest_gap(when: Schedule, after: datetime) -> float:
    """Seconds between two ticks where they are nearest, as far as the next ten tell."""
    return min(_gaps(when, after))


def longest_gap(when: Schedule, after: datetime) -> float:
    """Seconds between two ticks where they are farthest from each other, as far as the next ten tell."""
    return max(_gaps(when, after))


def _gaps(when: Schedule, after: datetime) -> list[float]:
    if isinstance(when, Every):
        return [when.seconds]
    ticks = [tick for _, tick in zip(range(_GAPS + 1), _cron(when.line, ZoneInfo(when.timezone), after), strict=False)]
    return [(later - earlier).total_seconds() for earlier, later in pairwise(ticks)]


def _cron(line: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    local = after.astimezone(zone)
    minute, hour = line.split()[-5:-3]
    if minute.startswith("*") or hour.startswith("*"):
        yield from (tick.astimezone(UTC) for tick in CronSim(line, local))
        return
    # CronSim has this rule for lines of five fields only; on a clock without a zone it leaves it to us.
    for wall in CronSim(line, local.replace(tzinfo=None)):
        tick = _first_real(wall, zone)
        if tick > after:
            yield tick


def _first_real(wall: datetime, zone: ZoneInfo) -> datetime:
    """The point in time at which a clock in ``zone`` first shows ``wall``, or the first minute behind a gap."""
    while True:
        tick = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if tick.astimezone(zone).replace(tzinfo=None) == wall:
            return tick
        wall += timedelta(minutes=1)


class BatchSchedule(BaseSchedule):  # type: ignore[misc]
    """A ``domain.schedule.Schedule`` as Celery's beat knows schedules.

    ``at_start``: a beat that starts ticks at once, and not an interval later, after a random time of up to
    ``jitter`` seconds. Only ``DatabaseScheduler`` heeds these two.
    """

    def __init__(
        self,
        when: Schedule,
        *,
        at_start: bool = False,
        jitter: float = 0.0,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        super().__init__(nowfun=nowfun, app=app)
        self.when = when
        self.at_start = at_start
        self.jitter = jitter

    def tick_expiry(self) -> float:
        """Seconds after which a tick that no worker took is stale."""
        return tick_expiry(shortest_gap(self.when, datetime.now(UTC)))

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Time until the tick that follows ``last_run_at``; negative when it is overdue."""
        now: datetime = self.maybe_make_aware(self.now())
        return following(self.when, self.maybe_make_aware(last_run_at)) - now

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether the tick after ``last_run_at`` has come, and in how many seconds to look again."""
        remaining = self.remaining_estimate(last_run_at).total_seconds()
        if remaining > 0:
            return schedstate(is_due=False, next=remaining)
        now = self.maybe_make_aware(self.now())
        return schedstate(is_due=True, next=(following(self.when, now) - now).total_seconds())

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.when, self.at_start, self.jitter)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BatchSchedule):
            return NotImplemented
        return (self.when, self.at_start, self.jitter) == (other.when, other.at_start, other.jitter)

    def __hash__(self) -> int:
        return hash((self.when, self.at_start, self.jitter))

    def __repr__(self) -> str:
        return f"<{self.when}>"


def _restored(when: Schedule, at_start: bool, jitter: float) -> BatchSchedule:  # noqa: FBT001 - only pickle calls it
    return BatchSchedule(when, at_start=at_start, jitter=jitter)
