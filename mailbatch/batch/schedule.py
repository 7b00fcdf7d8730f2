"""Ticks as a schedule of Celery, which any beat scheduler can use."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery.schedules import BaseSchedule, schedstate

from mailbatch.domain.schedule import Schedule, tick_expiry
from mailbatch.infrastructure.system.ticks import following, shortest_gap

if TYPE_CHECKING:
    from collections.abc import Callable


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
