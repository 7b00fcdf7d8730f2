"""Reads entries of ``beat_schedule``: whether beat can work with one, and how it wants its ticks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from celery.beat import ScheduleEntry
from celery.schedules import BaseSchedule
from celery.schedules import schedule as IntervalSchedule  # noqa: N812 - Celery spells a class so

from mailbatch.batch.schedule import BatchSchedule, next_after
from mailbatch.domain.job_name import MUST_BE, is_job_name


def problem_of(entry: ScheduleEntry) -> str | None:
    """Return why no beat could work with ``entry``, or None. Celery accepts entries that break at their first tick."""
    if not isinstance(entry.name, str) or not is_job_name(entry.name):
        return f"its name must be {MUST_BE}"
    if not isinstance(entry.task, str) or not entry.task:
        return "task must be the name of a task"
    if not isinstance(entry.schedule, BaseSchedule):
        return f"schedule must be seconds, a timedelta or a schedule of Celery, not {entry.schedule!r}"
    if isinstance(entry.schedule, IntervalSchedule) and entry.schedule.run_every <= timedelta(0):
        return "its schedule must be more than 0 seconds"
    kinds = ((entry.args, list | tuple), (entry.kwargs, dict), (entry.options, dict))
    if not all(isinstance(value, kind) for value, kind in kinds):
        return "args must be a list, kwargs and options mappings"
    # Raises here, and not at each look, if the time never comes or is too late for a date.
    next_after(entry.schedule, datetime.now(UTC))
    return None


def ticks_at_start(entry: ScheduleEntry) -> bool:
    """Return whether each start of beat is to tick at once."""
    return isinstance(entry.schedule, BatchSchedule) and entry.schedule.at_start


def makes_up_for_missed(entry: ScheduleEntry) -> bool:
    """Return whether a start of beat is to tick if a tick was missed. Celery's own schedules always do."""
    return not isinstance(entry.schedule, BatchSchedule) or entry.schedule.missed


def jitter_of(entry: ScheduleEntry) -> float:
    """Return the longest random delay of the tick at a start, in seconds."""
    return entry.schedule.jitter if isinstance(entry.schedule, BatchSchedule) else 0.0


def with_expiry(entry: ScheduleEntry, now: datetime) -> ScheduleEntry:
    """Return ``entry`` with its expiry counted from ``now``, the database's time: beat's own clock may be wrong."""
    expires = entry.options.get("expires")
    if not isinstance(expires, int | float):
        return entry
    return ScheduleEntry(
        name=entry.name,
        task=entry.task,
        schedule=entry.schedule,
        args=entry.args,
        kwargs=entry.kwargs,
        options={**entry.options, "expires": now + timedelta(seconds=expires)},
        app=entry.app,
    )
