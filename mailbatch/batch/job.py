"""A job: a batch of which one run is in progress at a time. It can be paused and stopped, and each run has a row.

``send-all`` and ``purge`` are jobs, and so is a user's own batch: one task that calls one ``Job``, and one schedule
entry (docs/how-to/own-batch.md).
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from mailbatch.batch.ending import FinalWrites, log_the_end, work_to_the_end
from mailbatch.batch.run_in_progress import RunInProgress
from mailbatch.batch.stop.stop_token import CombinedStopToken
from mailbatch.domain.errors import JobExecError, LockUnavailable, NotMigrated, StoreError
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.run import (
    ALREADY_RUNNING,
    DEAD_AFTER,
    REPORTED_ERRORS,
    Counts,
    Pause,
    RunOutcome,
    RunReport,
    Trigger,
)
from mailbatch.infrastructure.system.clock import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from mailbatch.application.ports.runs import Lock, PauseStore, Run, Runs, StatusBoard
    from mailbatch.application.ports.system import Clock
    from mailbatch.batch.ending import Ending
    from mailbatch.bootstrap import Parts

log = logging.getLogger(__name__)

HEARTBEAT = 5.0
"""Seconds between two heartbeats of a run."""
PAUSE_POLL = 0.5
"""Seconds within which ``pause --all`` and ``stop`` are seen."""
STATUS_EVERY = 1.0
"""Seconds between two updates of the status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A batch and what its runs need. Calling it is one run.

    ``timeout`` in seconds, 0 for none. ``bound``: how many items a crash may leave in doubt. ``remaining`` returns how
    many items are due and not done; it is called when a run ends, and for each call that starts no run. ``lock=None``:
    several runs may work at once. ``ensure_migrated`` raises ``NotMigrated`` if the tables do not fit this version,
    for example because they were migrated after the worker had started.
    """

    name: str
    work: Callable[[Run], None]
    runs: Runs
    pause_store: PauseStore
    lock: Lock | None
    lock_ttl: float
    status: StatusBoard | None
    clock: Clock
    new_id: Callable[[], UUID]
    ensure_migrated: Callable[[], None] = lambda: None
    remaining: Callable[[], int] = lambda: 0
    timeout: float = 0.0
    bound: int = 0

    def __call__(
        self,
        trigger: Trigger = Trigger.MANUAL,
        interrupted: Callable[[], RunOutcome | None] = lambda: None,
        on_progress: Callable[[Counts], None] = lambda _counts: None,
    ) -> RunReport:
        """Run once and return the report. A call that is paused, or meets a run in progress, returns a report too.

        ``interrupted`` is called before each item. It returns the outcome with which the caller wants the run to end
        (a revoke, a shutdown), or None. ``on_progress`` gets the counts at the start and every second.

        Raises:
            JobExecError: the run could not start (database or Redis), or its work raised an unexpected exception. If
                the database can be written, the run's row says so.
        """
        began = self.clock.monotonic()
        if self._is_paused(trigger):
            return self._record_call(trigger, RunOutcome.PAUSED)
        with self._locked(trigger) as acquired:
            if not acquired:
                log.info("%s: %s", ALREADY_RUNNING, self.name)
                return RunReport(run_id=None, trigger=trigger, outcome=RunOutcome.SKIPPED)
            stop = CombinedStopToken(interrupted, *self._own_stops(began))
            run = RunInProgress(self.new_id(), trigger, stop, runs=self.runs, clock=self.clock, began=began)
            with structlog.contextvars.bound_contextvars(job=self.name, run_id=str(run.id)):
                return self._run(run, on_progress)

    def _run(self, run: RunInProgress, on_progress: Callable[[Counts], None]) -> RunReport:
        """Open the run's row, do the work while the periodic tasks run, and write the end."""
        self._open_row(run)
        log.info("job started: %s (%s)", self.name, run.trigger)
        with run.periodic_tasks:
            self._start_periodic_tasks(run, on_progress)
            ending = work_to_the_end(self.work, run)
        return self._end(run, ending)

    # --- before the run ---

    def _is_paused(self, trigger: Trigger) -> bool:
        """Return whether a pause holds this call back. ``Pause.TICKS`` lets calls by hand through, and no others.

        Raises ``JobExecError`` if the database is unavailable, or if its tables do not fit this version.
        """
        try:
            self.ensure_migrated()
            pause = self.pause_store.paused(self.name)
        except (StoreError, NotMigrated) as error:
            raise JobExecError(one_line(str(error))) from error
        if pause is Pause.NONE or (pause is Pause.TICKS and trigger.by_hand):
            return False
        log.info("job is paused (%s): %s is not started", pause, self.name)
        return True

    def _record_call(self, trigger: Trigger, outcome: RunOutcome, error: str | None = None) -> RunReport:
        """Write a row for a call that starts no run."""
        run_id = self.new_id()
        report = RunReport(run_id=run_id, trigger=trigger, outcome=outcome, remaining=self._remaining())
        try:
            self.runs.open(run_id, self.name, trigger, 0)
            self.runs.close(self.name, report, error)
        except StoreError as failure:
            log.warning("no row could be written for a call that ended as %s: %s", outcome, failure)
        return report

    @contextmanager
    def _locked(self, trigger: Trigger) -> Iterator[bool]:
        """Hold the lock; yield False if another run holds it. Raise ``JobExecError`` if Redis is unavailable."""
        if self.lock is None:
            yield True
            return
        try:
            acquired = self.lock.acquire()
        except LockUnavailable as error:
            broken = JobExecError(one_line(str(error)))
            self._record_call(trigger, RunOutcome.FAILED, str(broken))
            raise broken from error
        try:
            yield acquired
        finally:
            if acquired:
                self.lock.release()

    def _open_row(self, run: RunInProgress) -> None:
        """Close the rows of runs that died, and open the row of this one."""
        try:
            for dead in self.runs.close_dead(self.name, DEAD_AFTER, self._remaining):
                log.error("run %s died without an end; its row is closed as failed", dead)
            self.runs.open(run.id, self.name, run.trigger, self.bound)
        except StoreError as error:
            raise JobExecError(one_line(str(error))) from error

    # --- beside the work ---

    def _start_periodic_tasks(self, run: RunInProgress, on_progress: Callable[[Counts], None]) -> None:
        """Start the periodic tasks: renew the lock, beat, check for a pause and a stop request, show the progress."""

        def show_progress() -> None:
            if self.status is not None:
                self.status.put(self.name, run.progress())
            on_progress(run.total)

        if self.lock is not None:
            run.every(self.lock_ttl / 3, self.lock.renew)
        run.every(HEARTBEAT, run.beat)
        run.every(PAUSE_POLL, partial(self._stop_if_paused, run))
        run.every(PAUSE_POLL, run.read_stop_request)
        run.every(STATUS_EVERY, show_progress)
        show_progress()

    def _stop_if_paused(self, run: RunInProgress) -> None:
        if self.pause_store.paused(self.name) is Pause.ALL:
            run.stop.request_stop(RunOutcome.PAUSED)

    def _own_stops(self, began: float) -> Iterator[Callable[[], RunOutcome | None]]:
        """Yield the other sources of a stop besides the caller. Each is called before each item."""
        lock, clock, timeout = self.lock, self.clock, self.timeout
        if lock is not None:
            yield lambda: None if lock.held() else RunOutcome.LOCK_LOST
        if timeout:
            yield lambda: RunOutcome.TIMED_OUT if clock.monotonic() - began > timeout else None

    # --- after the work ---

    def _end(self, run: RunInProgress, ending: Ending) -> RunReport:
        report = self._write_end(run, ending)
        if self.status is not None:
            self.status.put(self.name, {**run.progress(), "state": "finished", "outcome": report.outcome.value})
        log_the_end(self.name, report, ending.error)
        if ending.raises is not None:
            raise ending.raises
        return report

    def _write_end(self, run: RunInProgress, ending: Ending) -> RunReport:
        """Write the item errors that are not written yet, and close the run's row with its report."""
        duration = run.elapsed
        final = FinalWrites(self.clock)
        final.write_with_deadline(run.errors.write, None, "item errors are missing from the report of the run")
        report = RunReport(
            run_id=run.id,
            trigger=run.trigger,
            outcome=ending.outcome,
            counts=run.total,
            remaining=final.write_with_deadline(self.remaining, 0, "what remains could not be counted"),
            duration=duration,
            bound=self.bound,
            errors=([ending.error] if ending.error else []) + self._first_errors(run),
        )
        close = partial(self.runs.close, self.name, report, ending.error)
        bound = final.write_with_deadline(close, None, "the end of the run could not be written")
        return report if bound is None else replace(report, bound=bound)

    def _first_errors(self, run: RunInProgress) -> list[str]:
        """Return the first item errors of all lanes from the database; if it fails, those of this process."""
        try:
            return [error.text() for error in self.runs.first_errors(run.id, REPORTED_ERRORS)]
        except StoreError as error:
            log.warning("the item errors could not be read: %s", error)
            return run.first_errors

    def _remaining(self) -> int:
        try:
            return self.remaining()
        except StoreError as error:
            log.warning("what remains could not be counted: %s", error)
            return 0


def make_job(
    parts: Parts,
    name: str,
    work: Callable[[Run], None],
    *,
    lock: bool = True,
    remaining: Callable[[], int] = lambda: 0,
    timeout: float = 0.0,
    bound: int = 0,
) -> Job:
    """Return the job ``name`` that does ``work`` with the parts of this process. Make a new one for each run.

    With ``lock=False`` it runs even if another run is in progress, and uses neither lock nor status in Redis.
    """
    return Job(
        name=name,
        work=work,
        runs=parts.stores.runs,
        pause_store=parts.stores.pauses,
        lock=parts.lock(name) if lock else None,
        lock_ttl=parts.settings.lock_ttl,
        status=parts.status_board if lock else None,
        clock=parts.clock,
        new_id=new_id,
        ensure_migrated=parts.ensure_migrated,
        remaining=remaining,
        timeout=timeout,
        bound=bound,
    )
