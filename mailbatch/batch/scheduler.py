"""A beat scheduler on the database: any number of beats give one tick, and a pause survives restarts.

Beat's own clock only measures how long to sleep, at most a few seconds at a time; what is due the database says. So a
clock that jumps on a beat's host neither stalls nor doubles ticks.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from billiard.process import current_process
from celery import signals
from celery.beat import ScheduleEntry, Scheduler
from celery.result import denied_join_result
from celery.schedules import BaseSchedule
from celery.schedules import schedule as IntervalSchedule  # noqa: N812 - Celery spells a class so

from mailbatch import config
from mailbatch.batch.schedule import BatchSchedule, after_tick, is_stale, next_after, was_missed
from mailbatch.batch.start import announce, back_off, check_database
from mailbatch.batch.watchman import watch_in_beat
from mailbatch.domain.errors import StoreError
from mailbatch.domain.job_name import LONGEST_NAME, MUST_BE, is_job_name
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.run import Pause
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.schedule import Slot, Timetable
from mailbatch.infrastructure.system.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

FRESH = 10.0
"""Seconds after a tick within which a start needs none of its own."""
RETRY = 5.0
"""Seconds after which a tick that the broker did not take is tried again."""
_SHORTEST_SLEEP = 0.005


@dataclass(frozen=True, slots=True)
class _Recheck:
    """Look, at ``at`` on the monotonic clock, whether anything has run since ``tick`` or lives since ``start``."""

    at: float
    tick: datetime
    start: datetime


class DatabaseScheduler(Scheduler):  # type: ignore[misc]
    """Celery's ``beat_scheduler``. Entries come from ``beat_schedule``; their state stands in ``batch_schedule``."""

    def setup_schedule(self) -> None:
        """Take the entries, and check the database if this beat stands alone (the worker has done it for its own)."""
        settings = config.load()
        self._lock_ttl = settings.lock_ttl
        if current_process()._name == "MainProcess":  # noqa: SLF001 - as Celery does
            announce(settings, self.app.conf)
            check_database(settings)
        self.install_default_entries(self.data)
        self._told: set[str] = set()
        for name, entry in self.app.conf.beat_schedule.items():
            self._take(name, entry)
        self._engine = connect(settings.database_url, settings.database_schema)
        self._timetable = Timetable(self._engine)
        self._started: set[str] = set()
        self._rechecks: dict[str, _Recheck] = {}
        self._waits: Iterator[float] | None = None
        # An embedded beat is a part of its worker, whose heartbeat must not be kept up by it.
        alone = current_process()._name == "MainProcess"  # noqa: SLF001
        self._heartbeat = Heartbeat(settings.heartbeat_file) if alone else Heartbeat(notify=None)
        self._heartbeat.begin()

    def _take(self, name: Any, entry: Any) -> None:
        """Take an entry of ``beat_schedule``; one that is broken costs a line, and no other its ticks."""
        try:
            taken = self._maybe_entry(name, entry)
            problem = _problem_of(taken)
        except Exception as error:  # noqa: BLE001 - it is a user's own, with schedules of any make
            problem = one_line(f"{type(error).__name__}: {error}")
        if problem:
            log.error(
                "the entry %s of beat_schedule is broken, it gets no ticks: %s", ascii(name)[:LONGEST_NAME], problem
            )
        else:
            self.schedule[name] = taken

    def tick(self, **_: Any) -> float:
        """Send what is due; answer the seconds to sleep. A database that is away costs one log line a try."""
        self._heartbeat.beat()
        try:
            wait = self._tick()
        except StoreError as error:
            self._waits = self._waits or back_off(RETRY)
            wait = next(self._waits)
            log.error("no ticks: %s; trying again in %g s", error, wait)  # noqa: TRY400 - one line says it all
            return wait
        if self._waits is not None:
            log.info("the database answers; ticking again")
            self._waits = None
        return wait

    def close(self) -> None:
        """Give back the connections."""
        super().close()
        self._engine.dispose()

    def _ensure_connected(self) -> Any:
        """As Celery's, but beat lives while it waits for the broker."""

        def say(error: Exception, interval: float) -> None:
            log.error("no ticks: the broker does not answer: %s; trying again in %g s", error, interval)

        retries = self.app.conf.broker_connection_max_retries
        return self.connection.ensure_connection(say, retries, callback=self._heartbeat.beat)

    @property
    def info(self) -> str:
        """What the banner of a beat says of its store."""
        return "    . db -> table batch_schedule"

    def _tick(self) -> float:
        began = time.monotonic()
        now, slots = self._timetable.look()
        wait = float(self.max_interval)
        for name, entry in self.schedule.items():
            next_tick = self._attend_safely(entry, slots.get(name), now)
            if next_tick is not None:
                wait = min(wait, (next_tick - now).total_seconds())
        return max(wait - (time.monotonic() - began), _SHORTEST_SLEEP)

    def _attend_safely(self, entry: ScheduleEntry, slot: Slot | None, now: datetime) -> datetime | None:
        """Attend to ``entry``; a fault of it, a user's own schedule say, must not cost others their ticks."""
        try:
            found = self._attend(entry, slot, now)
        except StoreError:
            raise
        except Exception:
            if entry.name not in self._told:
                log.exception("the schedule entry %s is broken; it gets no ticks until that passes", entry.name)
                self._told.add(entry.name)
            return None
        self._told.discard(entry.name)
        return found

    def _attend(self, entry: ScheduleEntry, slot: Slot | None, now: datetime) -> datetime | None:
        """Do for one entry what its slot asks for; answer when to look at it again, None for some time."""
        begin = self._begins(entry, slot, now)
        if slot is None:
            self._timetable.add(entry.name, begin or next_after(entry.schedule, now))
            return now
        if slot.paused is not Pause.NONE:
            return None
        begin = begin or self._recheck(entry, slot, now) or self._comes_back(entry, slot, now)
        if begin is not None:
            self._timetable.move(slot, begin)
            return begin
        assert slot.next_tick_at is not None  # noqa: S101 - for mypy: _comes_back answers for a slot without
        if slot.next_tick_at > now:
            return slot.next_tick_at
        return self._send(entry, slot, now)

    def _begins(self, entry: ScheduleEntry, slot: Slot | None, now: datetime) -> datetime | None:
        """When the first tick of this start is to be, if this is the start and the stored one does not do."""
        if entry.name in self._started:
            return None
        if _at_start(entry):
            self._started.add(entry.name)
            return self._tick_of_start(entry, slot, now)
        # For what only makes up for ticks, a pause lasts until the resume: that is its start.
        if slot is None or slot.next_tick_at is None or slot.paused is not Pause.NONE:
            return None
        self._started.add(entry.name)
        if not self._is_owed(entry, slot, now):
            return next_after(entry.schedule, now) if is_stale(entry.schedule, slot.next_tick_at, now) else None
        # Celery's own schedules have no jitter, and their tasks need not be jobs: the tick comes as it was planned.
        return self._tick_of_start(entry, slot, now) if isinstance(entry.schedule, BatchSchedule) else None

    def _tick_of_start(self, entry: ScheduleEntry, slot: Slot | None, now: datetime) -> datetime | None:
        """When this start is to tick; None if that was just done, or is planned for sooner."""
        begin = now + timedelta(seconds=random.uniform(0, _jitter(entry)))  # noqa: S311 - spreads load, guards nothing
        last = slot.last_tick_at if slot else None
        self._rechecks[entry.name] = _Recheck(
            at=time.monotonic() + (begin - now).total_seconds() + self._lock_ttl + 1,
            tick=min(last or now, now),
            start=now,
        )
        if slot is None:
            return begin
        stored = slot.next_tick_at
        return begin if not _is_fresh(slot, now) and (stored is None or stored > begin or stored <= now) else None

    def _is_owed(self, entry: ScheduleEntry, slot: Slot, now: datetime) -> bool:
        """Whether this start is to make up for a tick: one was missed, or the run of the last one was cut off."""
        schedule = entry.schedule
        if isinstance(schedule, BatchSchedule) and not schedule.missed:
            return False
        delay = timedelta(seconds=_jitter(entry) + RETRY)
        if slot.next_tick_at and was_missed(schedule, slot.next_tick_at, slot.last_tick_at, now, delay):
            log.info("a tick of %s was missed; it comes now", entry.name)
            return True
        cut_off = isinstance(schedule, BatchSchedule) and self._timetable.was_cut_off(entry.task)
        if cut_off and not _is_fresh(slot, now):
            log.info("the last run of %s did not come to its end; a tick comes now", entry.name)
            return True
        return False

    def _recheck(self, entry: ScheduleEntry, slot: Slot, now: datetime) -> datetime | None:
        """Ask for one more tick if nothing came of that of the start: a dead holder's lock was in the way."""
        recheck = self._rechecks.get(entry.name)
        if recheck is None or time.monotonic() < recheck.at:
            return None
        del self._rechecks[entry.name]
        later = slot.last_tick_at is not None and (now - slot.last_tick_at).total_seconds() < self._lock_ttl
        if later or self._timetable.alive_since(entry.task, recheck.tick, recheck.start):
            return None
        log.info("no run of %s has begun since the start; ticking once more", entry.name)
        return now

    def _comes_back(self, entry: ScheduleEntry, slot: Slot, now: datetime) -> datetime | None:
        """The next tick, where the stored one is missing or too far away: a new schedule, or a clock set back."""
        latest = next_after(entry.schedule, now)
        if slot.next_tick_at is None:
            return latest
        return latest if slot.next_tick_at > latest + timedelta(seconds=_jitter(entry)) else None

    def _send(self, entry: ScheduleEntry, slot: Slot, now: datetime) -> datetime:
        """Take the tick and queue its task; answer when the next one is."""
        producer = self.producer  # Waits for the broker before the tick is taken: another beat may reach it.
        assert slot.next_tick_at is not None  # noqa: S101
        until = after_tick(entry.schedule, slot.next_tick_at, now)
        if not self._timetable.take(slot, until):
            return now
        try:
            # Nobody here waits for the result; else each tick would leave a subscription behind, and an outage of the
            # result backend would hold up beat for twenty seconds.
            with denied_join_result():
                self.apply_async(_expiring(entry, now), producer=producer, advance=False)
        except Exception as error:  # noqa: BLE001 - whatever the broker's client throws: beat goes on
            again = now + timedelta(seconds=RETRY)
            log.error("tick %s was not taken by the broker, trying again in %g s: %s", entry.name, RETRY, error)  # noqa: TRY400
            self._timetable.give_back(slot, until, again)
            return again
        log.info("tick: %s", entry.name)
        return until


def _problem_of(entry: ScheduleEntry) -> str | None:
    """Why no beat could work with ``entry``: Celery takes many a thing that breaks at its first tick."""
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
    # A time that never comes, or comes too late for a date, is found here and not at each look.
    next_after(entry.schedule, datetime.now(UTC))
    return None


def _at_start(entry: ScheduleEntry) -> bool:
    return isinstance(entry.schedule, BatchSchedule) and entry.schedule.at_start


def _is_fresh(slot: Slot, now: datetime) -> bool:
    return slot.last_tick_at is not None and (now - slot.last_tick_at).total_seconds() < FRESH


def _jitter(entry: ScheduleEntry) -> float:
    return entry.schedule.jitter if isinstance(entry.schedule, BatchSchedule) else 0.0


def _expiring(entry: ScheduleEntry, now: datetime) -> ScheduleEntry:
    """The entry with its expiry counted by the database's clock: beat's own may be wrong."""
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


signals.beat_init.connect(watch_in_beat)
