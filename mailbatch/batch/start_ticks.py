"""Decides which ticks a start of beat adds: one at once, one for a missed tick, or one more if no run began."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mailbatch.batch.schedule import BatchSchedule, is_stale, next_after, was_missed
from mailbatch.batch.schedule_entries import jitter_of, makes_up_for_missed, ticks_at_start
from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from celery.beat import ScheduleEntry

    from mailbatch.infrastructure.db.schedule import EntryState, SqlSchedule

log = logging.getLogger(__name__)

FRESH = 10.0
"""Seconds after a tick within which a start needs no tick of its own."""
RETRY = 5.0
"""Seconds after which a tick that the broker did not take is tried again."""


@dataclass(frozen=True, slots=True)
class _Recheck:
    """Look again at ``at``, on the monotonic clock: has a run ended since ``tick``, or shown life since ``start``?"""

    at: float
    tick: datetime
    start: datetime


class StartTicks:
    """The ticks of one start of beat. ``lock_ttl``: seconds for which a dead run may still hold its lock."""

    def __init__(self, schedule: SqlSchedule, lock_ttl: float) -> None:
        self._schedule = schedule
        self._lock_ttl = lock_ttl
        self._started: set[str] = set()
        self._rechecks: dict[str, _Recheck] = {}

    def first(self, entry: ScheduleEntry, state: EntryState | None, now: datetime) -> datetime | None:
        """Return when the first tick since the start is due, or None to leave the stored one as it is."""
        if entry.name in self._started:
            return None
        if ticks_at_start(entry):
            self._started.add(entry.name)
            return self._tick_of_start(entry, state, now)
        # While an entry is paused, its start waits for the resume.
        if state is None or state.next_tick_at is None or state.paused is not Pause.NONE:
            return None
        self._started.add(entry.name)
        if not self._is_owed(entry, state, now):
            return next_after(entry.schedule, now) if is_stale(entry.schedule, state.next_tick_at, now) else None
        # Celery's own schedules have no jitter, and their tasks need not be jobs: the tick comes as it was planned.
        return self._tick_of_start(entry, state, now) if isinstance(entry.schedule, BatchSchedule) else None

    def once_more(self, entry: ScheduleEntry, state: EntryState, now: datetime) -> datetime | None:
        """Return ``now`` if the tick of the start led to no run, because a dead run held the lock; else None."""
        recheck = self._rechecks.get(entry.name)
        if recheck is None or time.monotonic() < recheck.at:
            return None
        del self._rechecks[entry.name]
        later = state.last_tick_at is not None and (now - state.last_tick_at).total_seconds() < self._lock_ttl
        if later or self._schedule.alive_since(entry.task, recheck.tick, recheck.start):
            return None
        log.info("no run of %s has begun since the start; ticking once more", entry.name)
        return now

    def _tick_of_start(self, entry: ScheduleEntry, state: EntryState | None, now: datetime) -> datetime | None:
        """Return when this start ticks, or None if a tick has just come or is planned for sooner."""
        due = now + timedelta(seconds=random.uniform(0, jitter_of(entry)))  # noqa: S311 - spreads load, guards nothing
        last = state.last_tick_at if state else None
        self._rechecks[entry.name] = _Recheck(
            at=time.monotonic() + (due - now).total_seconds() + self._lock_ttl + 1,
            tick=min(last or now, now),
            start=now,
        )
        if state is None:
            return due
        stored = state.next_tick_at
        return due if not _is_fresh(state, now) and (stored is None or stored > due or stored <= now) else None

    def _is_owed(self, entry: ScheduleEntry, state: EntryState, now: datetime) -> bool:
        """Return whether this start makes up for a tick: one was missed, or the run of the last one was cut off."""
        schedule = entry.schedule
        if not makes_up_for_missed(entry):
            return False
        delay = timedelta(seconds=jitter_of(entry) + RETRY)
        if state.next_tick_at and was_missed(schedule, state.next_tick_at, state.last_tick_at, now, delay):
            log.info("a tick of %s was missed; it comes now", entry.name)
            return True
        cut_off = isinstance(schedule, BatchSchedule) and self._schedule.was_cut_off(entry.task)
        if cut_off and not _is_fresh(state, now):
            log.info("the last run of %s did not come to its end; a tick comes now", entry.name)
            return True
        return False


def _is_fresh(state: EntryState, now: datetime) -> bool:
    return state.last_tick_at is not None and (now - state.last_tick_at).total_seconds() < FRESH
