"""Our schedules as schedules of Celery, which any beat scheduler can use."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery.schedules import BaseSchedule, crontab, schedstate

from mailbatch.domain.schedule import Cron, Schedule, tick_expiry
from mailbatch.infrastructure.cron import following, shortest_gap

if TYPE_CHECKING:
    from collections.abc import Callable

_SAME = timedelta(seconds=1)
"""Two ticks of a cron line are at least this far apart."""


def next_after(schedule: BaseSchedule, after: datetime) -> datetime:
    """Return the first tick of any schedule of Celery later than ``after``, whatever this host's clock shows."""
    if isinstance(schedule, BatchSchedule):
        return following(schedule.when, after)
    theirs = copy(schedule)
    theirs.nowfun = lambda: after
    return after + theirs.remaining_estimate(after)  # type: ignore[no-any-return]


def after_tick(schedule: BaseSchedule, due: datetime, now: datetime) -> datetime:
    """Return the tick after one that was due at ``due`` and was fired at ``now``.

    An interval counts from when the tick was due, so that delays do not add up; missed ticks are not made up for.
    """
    after_due = next_after(schedule, due)
    return after_due if after_due > now else next_after(schedule, now)


def was_missed(
    schedule: BaseSchedule, planned: datetime, last: datetime | None, now: datetime, delay: timedelta
) -> bool:
    """Return whether a tick is overdue at ``now``: the next was planned for ``planned``, the last came at ``last``.

    The plan may come from another schedule, before the setting was changed. So for a cron line it counts whether one of
    its own times has passed since ``last``. A tick that was delayed by up to ``delay`` because the broker was away is
    overdue too.
    """
    if not _is_cron(schedule):
        return planned <= now
    if planned > now + delay or not is_stale(schedule, planned, now):
        return False
    return planned <= now if last is None else next_after(schedule, last) <= now


def is_stale(schedule: BaseSchedule, planned: datetime, now: datetime) -> bool:
    """Return whether ``planned`` is past, or is no time of the cron line because the schedule was changed."""
    return planned <= now or (_is_cron(schedule) and abs(next_after(schedule, now) - planned) >= _SAME)


def _is_cron(schedule: BaseSchedule) -> bool:
    when = schedule.when if isinstance(schedule, BatchSchedule) else schedule
    return isinstance(when, Cron | crontab)


class BatchSchedule(BaseSchedule):  # type: ignore[misc]
    """A ``domain.schedule.Schedule`` as Celery's beat knows schedules.

    ``at_start``: a starting beat ticks at once, not an interval later. ``missed``: it does so if a tick was missed, or
    if the run of the last tick was cut off. Both wait a random time of up to ``jitter`` seconds. Only
    ``DatabaseScheduler`` uses these three.
    """

    def __init__(
        self,
        when: Schedule,
        *,
        at_start: bool = False,
        missed: bool = True,
        jitter: float = 0.0,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        super().__init__(nowfun=nowfun, app=app)
        self.when = when
        self.at_start = at_start
        self.missed = missed
        self.jitter = jitter

    def tick_expiry(self) -> float:
        """Return the seconds after which a tick that no worker took is stale."""
        return tick_expiry(shortest_gap(self.when, datetime.now(UTC)))

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return the time until the tick that follows ``last_run_at``; negative if it is overdue."""
        now: datetime = self.maybe_make_aware(self.now())
        return following(self.when, self.maybe_make_aware(last_run_at)) - now

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether the tick after ``last_run_at`` has come, and in how many seconds to look again."""
        remaining = self.remaining_estimate(last_run_at).total_seconds()
        if remaining > 0:
            return schedstate(is_due=False, next=remaining)
        now = self.maybe_make_aware(self.now())
        return schedstate(is_due=True, next=(following(self.when, now) - now).total_seconds())

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, self._values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BatchSchedule):
            return NotImplemented
        return self._values == other._values

    def __hash__(self) -> int:
        return hash(self._values)

    def __repr__(self) -> str:
        return f"<{self.when}>"

    @property
    def _values(self) -> tuple[Schedule, bool, bool, float]:
        return self.when, self.at_start, self.missed, self.jitter


def _restored(when: Schedule, at_start: bool, missed: bool, jitter: float) -> BatchSchedule:  # noqa: FBT001 - only pickle calls it
    return BatchSchedule(when, at_start=at_start, missed=missed, jitter=jitter)
