"""A beat scheduler on the database: several beats together send each tick once, and a pause survives restarts.

Beat's own clock only measures how long to sleep, at most a few seconds at a time; the database's clock decides what is
due. So a clock that jumps on a beat's host neither stalls nor doubles ticks.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from billiard.process import current_process
from celery import signals
from celery.beat import Scheduler
from celery.result import denied_join_result

from mailbatch import config
from mailbatch.batch.monitor import monitor_in_beat
from mailbatch.batch.schedule import after_tick, next_after
from mailbatch.batch.schedule_entries import jitter_of, problem_of, with_expiry
from mailbatch.batch.start import announce, back_off, check_database
from mailbatch.batch.start_ticks import RETRY, StartTicks
from mailbatch.domain.errors import StoreError
from mailbatch.domain.job_name import LONGEST_NAME
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.run import Pause
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.schedule import EntryState, SqlSchedule
from mailbatch.infrastructure.system.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from celery.beat import ScheduleEntry

log = logging.getLogger(__name__)

_SHORTEST_SLEEP = 0.005


class DatabaseScheduler(Scheduler):  # type: ignore[misc]
    """Celery's ``beat_scheduler``. Entries come from ``beat_schedule``; their state stands in ``batch_schedule``."""

    def setup_schedule(self) -> None:
        """Take the entries. A beat in a process of its own also checks the database, as a worker does for its beat."""
        settings = config.load()
        is_own_process = current_process()._name == "MainProcess"  # noqa: SLF001 - as Celery does
        if is_own_process:
            announce(settings, self.app.conf)
            check_database(settings)
        self.install_default_entries(self.data)
        self._known_broken: set[str] = set()
        for name, entry in self.app.conf.beat_schedule.items():
            self._take_entry(name, entry)
        self._engine = connect(settings.database_url, settings.database_schema)
        self._states = SqlSchedule(self._engine)
        self._start_ticks = StartTicks(self._states, settings.lock_ttl)
        self._waits: Iterator[float] | None = None
        # An embedded beat is a part of its worker, and must not keep up the worker's heartbeat.
        self._heartbeat = Heartbeat(settings.heartbeat_file) if is_own_process else Heartbeat(notify=None)
        self._heartbeat.begin()

    def _take_entry(self, name: Any, entry: Any) -> None:
        """Take an entry of ``beat_schedule``. A broken one is logged and gets no ticks; the others are not affected."""
        try:
            taken = self._maybe_entry(name, entry)
            problem = problem_of(taken)
        except Exception as error:  # noqa: BLE001 - a user's own entry, with a schedule of any class
            problem = one_line(f"{type(error).__name__}: {error}")
        if problem:
            log.error(
                "the entry %s of beat_schedule is broken, it gets no ticks: %s", ascii(name)[:LONGEST_NAME], problem
            )
        else:
            self.schedule[name] = taken

    def tick(self, **_: Any) -> float:
        """Send what is due, and return the seconds to sleep. An unavailable database is one log line for each try."""
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
        """Close the connections."""
        super().close()
        self._engine.dispose()

    def _ensure_connected(self) -> Any:
        """As Celery's, with a heartbeat while it waits for the broker."""

        def log_retry(error: Exception, interval: float) -> None:
            log.error("no ticks: the broker does not answer: %s; trying again in %g s", error, interval)

        retries = self.app.conf.broker_connection_max_retries
        return self.connection.ensure_connection(log_retry, retries, callback=self._heartbeat.beat)

    @property
    def info(self) -> str:
        """The line about the store in beat's banner."""
        return "    . db -> table batch_schedule"

    def _tick(self) -> float:
        began = time.monotonic()
        now, states = self._states.read()
        wait = float(self.max_interval)
        for name, entry in self.schedule.items():
            next_look = self._attend_safely(entry, states.get(name), now)
            if next_look is not None:
                wait = min(wait, (next_look - now).total_seconds())
        return max(wait - (time.monotonic() - began), _SHORTEST_SLEEP)

    def _attend_safely(self, entry: ScheduleEntry, state: EntryState | None, now: datetime) -> datetime | None:
        """Attend to ``entry``. An error of its own, of a user's schedule for example, does not affect the others."""
        try:
            next_look = self._attend(entry, state, now)
        except StoreError:
            raise
        except Exception:
            if entry.name not in self._known_broken:
                log.exception("the schedule entry %s is broken; it gets no ticks until that passes", entry.name)
                self._known_broken.add(entry.name)
            return None
        self._known_broken.discard(entry.name)
        return next_look

    def _attend(self, entry: ScheduleEntry, state: EntryState | None, now: datetime) -> datetime | None:
        """Plan or send the tick of one entry. Return when to look at it again; None if the entry is paused."""
        planned = self._start_ticks.first(entry, state, now)
        if state is None:
            self._states.add(entry.name, planned or next_after(entry.schedule, now))
            return now
        if state.paused is not Pause.NONE:
            return None
        planned = planned or self._start_ticks.once_more(entry, state, now) or _repaired(entry, state, now)
        if planned is not None:
            self._states.plan(state, planned)
            return planned
        assert state.next_tick_at is not None  # noqa: S101 - for mypy: _repaired returns a time if there is none
        if state.next_tick_at > now:
            return state.next_tick_at
        return self._send(entry, state, now)

    def _send(self, entry: ScheduleEntry, state: EntryState, now: datetime) -> datetime:
        """Take the tick and queue its task. Return when to look at the entry again."""
        producer = self.producer  # Waits for the broker before the tick is taken: another beat may reach it.
        assert state.next_tick_at is not None  # noqa: S101
        next_tick = after_tick(entry.schedule, state.next_tick_at, now)
        if not self._states.take(state, next_tick):
            return now
        try:
            # Beat never reads the result. Otherwise each tick would leave a subscription behind, and an outage of the
            # result backend would delay beat by twenty seconds.
            with denied_join_result():
                self.apply_async(with_expiry(entry, now), producer=producer, advance=False)
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises: beat goes on
            again = now + timedelta(seconds=RETRY)
            log.error("tick %s was not taken by the broker, trying again in %g s: %s", entry.name, RETRY, error)  # noqa: TRY400
            self._states.give_back(state, next_tick, again)
            return again
        log.info("tick: %s", entry.name)
        return next_tick


def _repaired(entry: ScheduleEntry, state: EntryState, now: datetime) -> datetime | None:
    """Return the next tick if the stored one is missing or too late: a new schedule, or a clock that was set back."""
    latest = next_after(entry.schedule, now)
    if state.next_tick_at is None:
        return latest
    return latest if state.next_tick_at > latest + timedelta(seconds=jitter_of(entry)) else None


signals.beat_init.connect(monitor_in_beat)
