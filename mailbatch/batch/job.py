"""A run of a batch, whatever the batch does: pause, lock, row, heartbeat, status, stop, duration, texts.

``send-all`` and ``purge`` are jobs, and so is a user's own batch: one task that calls one ``Job``, and one schedule
entry (docs/how-to/own-batch.md).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from mailbatch.batch.collecting import ItemErrors, LastWords
from mailbatch.batch.periodic_tasks import PeriodicTasks
from mailbatch.batch.stop import Stop
from mailbatch.domain.errors import JobExecError, LockUnavailable, NotMigrated, RunFailed, StoreError
from mailbatch.domain.run import (
    ALREADY_RUNNING,
    DEAD_AFTER,
    FINISHED,
    REPORTED_ERRORS,
    Counts,
    Pause,
    RunOutcome,
    RunReport,
    Trigger,
    mask_addresses,
    one_line,
    public,
)
from mailbatch.infrastructure.system.clock import new_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from mailbatch.application.ports.runs import Lock, PauseStore, Run, Runs, StatusBoard
    from mailbatch.application.ports.system import Clock
    from mailbatch.bootstrap import Parts
    from mailbatch.domain.run import ItemError

log = logging.getLogger(__name__)

HEARTBEAT = 5.0
"""Seconds between two signs of life of a run."""
PAUSE_POLL = 0.5
"""Seconds within which ``pause --all`` and ``stop`` are seen."""
STATUS_EVERY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A batch and what its runs need. Calling it is one run.

    ``timeout`` in seconds, 0 for none; ``bound``: how many items a crash may leave in doubt; ``remaining`` counts
    what is left to do at the end; ``lock=None`` runs without mutual exclusion. ``ensure_migrated`` raises
    ``NotMigrated`` if the tables were changed since the worker started.
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
        watch: Callable[[Counts], None] = lambda _counts: None,
    ) -> RunReport:
        """Run once and answer the report, whatever happened.

        ``interrupted`` is asked before each item (a revoke, a shutdown); ``watch`` is shown the counts every second.

        Raises:
            JobExecError: the job itself broke; the row of the run is written all the same.
        """
        began = self.clock.monotonic()
        try:
            self.ensure_migrated()
            pause = self.pause_store.paused(self.name)
        except (StoreError, NotMigrated) as error:
            raise JobExecError(one_line(str(error))) from error
        if not self._may_start(pause, trigger):
            log.info("job is paused (%s): %s is not started", pause, self.name)
            return self._note(trigger, RunOutcome.PAUSED)
        try:
            taken = self.lock is None or self.lock.acquire()
        except LockUnavailable as error:
            broken = JobExecError(one_line(str(error)))
            self._note(trigger, RunOutcome.FAILED, str(broken))
            raise broken from error
        if not taken:
            log.info("%s: %s", ALREADY_RUNNING, self.name)
            return RunReport(run_id=None, trigger=trigger, outcome=RunOutcome.SKIPPED)
        try:
            return self._run(trigger, interrupted, watch, began)
        finally:
            if self.lock is not None:
                self.lock.release()

    def _may_start(self, pause: Pause, trigger: Trigger) -> bool:
        """A pause of the ticks stops those alone; a tick that was queued before the pause is one of them."""
        return pause is Pause.NONE or (pause is Pause.TICKS and trigger is not Trigger.BEAT)

    def _note(self, trigger: Trigger, outcome: RunOutcome, error: str | None = None) -> RunReport:
        """Write the row of a call that did not get so far as to run."""
        run_id = self.new_id()
        report = RunReport(run_id=run_id, trigger=trigger, outcome=outcome, remaining=self._remaining())
        try:
            self.runs.open(run_id, self.name, trigger, 0)
            self.runs.close(self.name, report, error)
        except StoreError as failure:
            log.warning("a call that ended as %s could not be noted: %s", outcome, failure)
        return report

    def _run(
        self,
        trigger: Trigger,
        interrupted: Callable[[], RunOutcome | None],
        watch: Callable[[Counts], None],
        began: float,
    ) -> RunReport:
        run_id = self.new_id()
        with structlog.contextvars.bound_contextvars(job=self.name, run_id=str(run_id)):
            try:
                for dead in self.runs.close_dead(self.name, DEAD_AFTER, self._remaining):
                    log.error("run %s died without an end; its row is closed as failed", dead)
                self.runs.open(run_id, self.name, trigger, self.bound)
            except StoreError as error:
                raise JobExecError(one_line(str(error))) from error
            log.info("job started: %s (%s)", self.name, trigger)
            run = _Run(self, run_id, trigger, interrupted, began)
            with run.upkeep:
                run.keep_up(watch)
                ending = self._work(run)
            return self._close(run, ending, began)

    def _work(self, run: _Run) -> _Ending:
        """Do the work; whatever it throws becomes the ending of the run, and what was collected before is kept."""
        try:
            self.work(run)
        except RunFailed as error:
            return _Ending(RunOutcome.FAILED, _told(str(error)))
        except Exception as error:
            log.exception("the job broke")
            broken = JobExecError(_told(f"{type(error).__name__}: {error}"))
            return _Ending(RunOutcome.FAILED, str(broken), raises=broken)
        except BaseException as error:  # noqa: BLE001 - SystemExit by `revoke --terminate`: note it, then let it through
            return _Ending(RunOutcome.REVOKED, f"terminated by {type(error).__name__}", raises=error)
        return _Ending(run.stop.reason() or RunOutcome.COMPLETED, None)

    def _close(self, run: _Run, ending: _Ending, began: float) -> RunReport:
        duration = self.clock.monotonic() - began
        last = LastWords(self.clock)
        last.say(run.errors.write, None, "item errors are missing from the report of the run")
        report = RunReport(
            run_id=run.id,
            trigger=run.trigger,
            outcome=ending.outcome,
            counts=run.total,
            remaining=last.say(self.remaining, 0, "what remains could not be counted"),
            duration=duration,
            bound=self.bound,
            errors=([ending.error] if ending.error else []) + self._first_errors(run),
        )
        close = partial(self.runs.close, self.name, report, ending.error)
        last.say(close, None, "the end of the run could not be written")
        if self.status is not None:
            self.status.put(self.name, {**run.progress(), "state": "finished", "outcome": report.outcome.value})
        level = logging.ERROR if ending.error else logging.INFO
        log.log(
            level,
            "%s: %s, %s after %.3f s (%s)%s",
            FINISHED,
            self.name,
            report.outcome,
            report.duration,
            ", ".join(f"{name} {n}" for name, n in report.as_dict().items() if name in _COUNTED and n) or "nothing due",
            f": {public(ending.error)}" if ending.error else "",
        )
        if ending.raises is not None:
            raise ending.raises
        return report

    def _first_errors(self, run: _Run) -> list[str]:
        """Those of all lanes, from the database; this lane's own if it does not answer."""
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


def _told(error: str) -> str:
    """Why a run ended, as it stands in its row, in Celery's result and in Flower: whole, but for addresses."""
    return mask_addresses(one_line(error))


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
    """A job named ``name`` that does ``work``, with the parts of this process; for one run.

    Without ``lock`` it runs whatever else runs, and touches no Redis.
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


_COUNTED = frozenset({"sent", "failed", "deferred", "in_doubt", "expired", "remaining"})


@dataclass(frozen=True, slots=True)
class _Ending:
    outcome: RunOutcome
    error: str | None
    raises: BaseException | None = None


class _Run:
    """The port ``Run``: a run in progress."""

    def __init__(
        self,
        job: Job,
        run_id: UUID,
        trigger: Trigger,
        interrupted: Callable[[], RunOutcome | None],
        began: float,
    ) -> None:
        self._job = job
        self._began = began
        self.id = run_id
        self.trigger = trigger
        self._counts = Counts()
        self._elsewhere = Counts()
        self.first_errors: list[str] = []
        self.upkeep = PeriodicTasks()
        self.stop = Stop(interrupted, self._lock_lost, self._timed_out)
        self.errors = ItemErrors(job.runs, run_id)
        self._guard = threading.Lock()

    # --- what the work sees ---

    def every(self, seconds: float, deed: Callable[[], None]) -> None:
        self.upkeep.every(seconds, deed)

    def count(self, counts: Counts) -> None:
        with self._guard:
            self._counts += counts

    def elsewhere(self, counts: Counts) -> None:
        self._elsewhere = counts

    @property
    def total(self) -> Counts:
        """What all lanes have done."""
        return self._counts + self._elsewhere

    def item_error(self, error: ItemError) -> None:
        if len(self.first_errors) < REPORTED_ERRORS:
            self.first_errors.append(error.text())
        self.errors.add(error)

    # --- what goes on beside it ---

    def keep_up(self, watch: Callable[[Counts], None]) -> None:
        """Start the upkeep: lock, heartbeat, pause, status."""
        job = self._job
        if job.lock is not None:
            self.every(job.lock_ttl / 3, job.lock.renew)
        self.every(HEARTBEAT, self._beat)
        self.every(PAUSE_POLL, self._look_for_pause)
        self.every(PAUSE_POLL, self._listen)
        self.every(STATUS_EVERY, lambda: self._show(watch))
        self._show(watch)

    def progress(self) -> dict[str, Any]:
        """The run as the status board shows it."""
        report = RunReport(run_id=self.id, trigger=self.trigger, outcome=RunOutcome.COMPLETED, counts=self.total)
        shown = {k: v for k, v in report.as_dict().items() if k in _COUNTED or k in {"run_id", "trigger"}}
        shown.pop("remaining")
        return {**shown, "state": "running", "elapsed": round(self._job.clock.monotonic() - self._began, 3)}

    def _beat(self) -> None:
        self.errors.flush()
        self._job.runs.beat(self.id, self.total)

    def _look_for_pause(self) -> None:
        if self._job.pause_store.paused(self._job.name) is Pause.ALL:
            self.stop.tell(RunOutcome.PAUSED)

    def _listen(self) -> None:
        if (reason := self._job.runs.told_to_stop(self.id)) is not None:
            self.stop.tell(reason)

    def _show(self, watch: Callable[[Counts], None]) -> None:
        if self._job.status is not None:
            self._job.status.put(self._job.name, self.progress())
        watch(self.total)

    def _lock_lost(self) -> RunOutcome | None:
        lock = self._job.lock
        return RunOutcome.LOCK_LOST if lock is not None and not lock.held() else None

    def _timed_out(self) -> RunOutcome | None:
        over = self._job.timeout and self._job.clock.monotonic() - self._began > self._job.timeout
        return RunOutcome.TIMED_OUT if over else None
