"""The ports to the stores of a run in memory, over the rows of ``FakeTables``; and a run in progress.

The contract tests hold them to what the databases do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from support.fake_tables import FakeTables
from support.rows import lane_row, run_row

from mailbatch.domain.circuit import Circuit, CircuitState
from mailbatch.domain.errors import StoreError
from mailbatch.domain.message import Envelope, Message
from mailbatch.domain.run import STOPPED, Counts, NewestRun, OpenRun, Pause, RunOutcome, Trigger
from mailbatch.infrastructure.db.runs import DIED
from mailbatch.infrastructure.db.schedule import EntryState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.reply_kinds import Concern
    from mailbatch.domain.rows import RunRow
    from mailbatch.domain.run import ItemError, RunReport


@dataclass
class FakeRuns:
    """The port ``Runs`` over ``tables``. ``away``: how many more writes of a run's end fail."""

    tables: FakeTables = field(default_factory=FakeTables)
    away: int = 0

    @property
    def rows(self) -> dict[UUID, RunRow]:
        return self.tables.runs

    def open(self, run_id: UUID, job: str, trigger: Trigger, bound: int) -> None:
        self.rows[run_id] = run_row(self.tables.now, run_id=run_id, job=job, trigger=trigger, bound=bound)

    def beat(self, run_id: UUID, counts: Counts) -> None:
        if self.rows[run_id].outcome is None:
            self._change(run_id, heartbeat_at=self.tables.now, **asdict(counts))

    def errors(self, run_id: UUID, errors: Sequence[ItemError]) -> None:
        self._check()
        noted = self.tables.errors.setdefault(run_id, [])
        known = {e.index for e in noted}
        noted += [e for e in errors if e.index not in known]

    def raise_bound(self, run_id: UUID, mails: int) -> None:
        if self.rows[run_id].outcome is None:
            self._change(run_id, bound=self.rows[run_id].bound + mails)

    def close(self, job: str, report: RunReport, error: str | None) -> int | None:
        self._check()
        assert report.run_id is not None
        assert self.rows[report.run_id].job == job
        self._end(
            report.run_id,
            outcome=report.outcome,
            duration=report.duration,
            remaining=report.remaining,
            error=error,
            heartbeat_at=self.tables.now,
            **asdict(report.counts),
        )
        return self.rows[report.run_id].bound

    def open_run(self, job: str) -> OpenRun | None:
        row = next((row for row in self.tables.runs_of(job) if row.outcome is None), None)
        return row and OpenRun(row.run_id, row.started_at, row.silent or 0.0)

    def close_dead(self, job: str, silent: float, remaining: Callable[[], int] = lambda: 0) -> list[UUID]:
        going_on = [row for row in self.tables.runs_of(job) if row.outcome is None]
        dead = [row.run_id for row in going_on if (row.silent or 0.0) > silent]
        left = remaining() if dead else 0
        for run_id in dead:
            self._end(run_id, outcome=RunOutcome.FAILED, error=DIED, remaining=left)
        return dead

    def first_errors(self, run_id: UUID, limit: int) -> list[ItemError]:
        return sorted(self.tables.errors.get(run_id, []), key=lambda error: error.index)[:limit]

    def outcome_of(self, run_id: UUID) -> RunOutcome | None:
        row = self.rows.get(run_id)
        return row and row.outcome

    def newest(self, job: str) -> NewestRun | None:
        row = next(iter(self.tables.runs_of(job)), None)
        if row is None:
            return None
        silent = self.tables.since(row.finished_at or row.heartbeat_at) or 0.0
        return NewestRun(row.run_id, row.trigger, row.outcome, silent, row.claimed)

    def request_stop(self, run_id: UUID) -> bool:
        row = self.rows.get(run_id)
        if row is None or row.outcome is not None or row.stop is not None:
            return False
        self._change(run_id, stop=RunOutcome.REVOKED)
        return True

    def stop_request(self, run_id: UUID) -> RunOutcome | None:
        stop = self.rows[run_id].stop
        if stop is None or stop in set(RunOutcome) - STOPPED:
            return None
        return RunOutcome(stop) if stop in STOPPED else RunOutcome.REVOKED

    def _check(self) -> None:
        if self.away > 0:
            self.away -= 1
            raise StoreError("away", transient=True)

    def _end(self, run_id: UUID, **columns: Any) -> None:
        self._change(run_id, finished_at=self.tables.now, **columns)

    def _change(self, run_id: UUID, **columns: Any) -> None:
        self.rows[run_id] = replace(self.rows[run_id], **columns)


@dataclass
class FakeQuotas:
    """The port ``Quotas`` over ``tables``."""

    tables: FakeTables = field(default_factory=FakeTables)
    _guard: Lock = field(default_factory=Lock)

    def take(self, relay: str, day: date, most: int, wanted: int) -> int:
        with self._guard:
            count = max(0, min(wanted, most - self.used(relay, day)))
            self.tables.quotas[relay, day] = self.used(relay, day) + count
        return count

    def give_back(self, relay: str, day: date, count: int) -> None:
        with self._guard:
            self.tables.quotas[relay, day] = max(0, self.used(relay, day) - count)

    def used(self, relay: str, day: date) -> int:
        return self.tables.quotas.get((relay, day), 0)


@dataclass
class FakeCircuits:
    """The port ``Circuits`` over ``tables``. ``failing`` is raised by every method."""

    tables: FakeTables = field(default_factory=FakeTables)
    failing: StoreError | None = None

    def look(self, relay: str) -> Circuit:
        self._check()
        row = self.tables.circuits.get(relay, Circuit(relay=relay))
        return replace(row, seconds_left=max(0.0, -(self.tables.since(row.open_until) or 0.0)))

    def open(
        self,
        relay: str,
        reason: str,
        seconds: float,
        concern: Concern | None = None,
        suspects: Mapping[UUID, int] | None = None,
    ) -> Circuit:
        was = self.look(relay)
        if was.state is not CircuitState.OPEN or was.seconds_left <= 0:
            self.tables.circuits[relay] = Circuit(
                relay=relay,
                state=CircuitState.OPEN,
                failures=was.failures + 1,
                reason=reason,
                opened_at=self.tables.now,
                open_until=self.tables.now + timedelta(seconds=seconds),
                concern=concern,
                suspects=dict(suspects or {}),
            )
        return self.look(relay)

    def half_open(self, relay: str) -> None:
        if relay in self.tables.circuits:
            self.tables.circuits[relay] = replace(self.look(relay), state=CircuitState.HALF_OPEN)

    def close(self, relay: str) -> None:
        self.tables.circuits[relay] = Circuit(relay=relay, suspects=self.look(relay).suspects)

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing


@dataclass
class FakeLanes:
    """The port ``Lanes`` over ``tables``."""

    tables: FakeTables = field(default_factory=FakeTables)

    def join(self, run_id: UUID, lane: int) -> bool:
        run = self.tables.runs.get(run_id)
        if run is None or run.outcome is not None or run.stop is not None or (run_id, lane) in self.tables.lanes:
            return False
        self.tables.lanes[run_id, lane] = lane_row(self.tables.now, run_id=run_id, lane=lane)
        return True

    def beat(self, run_id: UUID, lane: int) -> None:
        self._change(run_id, lane, heartbeat_at=self.tables.now)

    def leave(self, run_id: UUID, lane: int, error: str | None) -> None:
        self._change(run_id, lane, left_at=self.tables.now, error=error)

    def living(self, run_id: UUID, silent: float) -> int:
        ours = [row for row in self.tables.lanes.values() if row.run_id == run_id and row.left_at is None]
        return sum((self.tables.since(row.heartbeat_at) or 0.0) < silent for row in ours)

    def seal(self, run_id: UUID, silent: float) -> bool:
        if self.living(run_id, silent):
            return False
        self.request_stop(run_id, RunOutcome.COMPLETED)
        return True

    def counts(self, run_id: UUID) -> Counts:
        return sum((counts for (of, _), counts in self.tables.settled.items() if of == run_id), Counts())

    def request_stop(self, run_id: UUID, reason: RunOutcome) -> None:
        run = self.tables.runs[run_id]
        self.tables.runs[run_id] = replace(run, stop=run.stop or reason)

    def must_stop(self, run_id: UUID, silent: float) -> RunOutcome | None:
        run = self.tables.runs.get(run_id)
        if run is not None and run.stop is not None:
            return RunOutcome(run.stop) if run.stop in set(RunOutcome) else RunOutcome.REVOKED
        led = run is not None and run.outcome is None and (self.tables.since(run.heartbeat_at) or 0.0) < silent
        return None if led else RunOutcome.LOCK_LOST

    def _change(self, run_id: UUID, lane: int, **columns: Any) -> None:
        self.tables.lanes[run_id, lane] = replace(self.tables.lanes[run_id, lane], **columns)


@dataclass
class FakePauseStore:
    """The port ``PauseStore`` over ``tables``."""

    tables: FakeTables = field(default_factory=FakeTables)

    def paused(self, job: str) -> Pause:
        return self._entry(job).paused

    def set(self, job: str, pause: Pause) -> None:
        self.tables.slots[job] = replace(self._entry(job), paused=pause)

    def _entry(self, job: str) -> EntryState:
        return self.tables.slots.get(job, EntryState(job))


@dataclass
class FakeStop:
    """The port ``StopToken``: it returns None for the first ``after`` calls, and then ``why``."""

    why: RunOutcome | None = None
    after: int = 0
    asked: int = 0

    def reason(self) -> RunOutcome | None:
        self.asked += 1
        return self.why if self.asked > self.after else None


@dataclass
class FakeRun:
    """The port ``Run``; a test calls its periodic callbacks itself."""

    id: UUID = field(default_factory=uuid4)
    trigger: Trigger = Trigger.BEAT
    stop: FakeStop = field(default_factory=FakeStop)
    counts: Counts = field(default_factory=Counts)
    errors: list[ItemError] = field(default_factory=list)
    upkeep: list[Callable[[], None]] = field(default_factory=list)
    others: Counts = field(default_factory=Counts)
    fault: str | None = None
    bound: int = 0
    """How many mails were added to the bound of the run."""

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        self.upkeep.append(callback)

    def count(self, counts: Counts) -> None:
        self.counts += counts

    def set_helper_counts(self, counts: Counts) -> None:
        self.others = counts

    def item_error(self, error: ItemError) -> None:
        self.errors.append(error)

    def note_fault(self, why: str) -> None:
        self.fault = self.fault or why

    def raise_bound(self, mails: int) -> None:
        self.bound += mails


def plain_message(claimed: ClaimedMail) -> Message:
    """The port ``Composer``: it only addresses the envelope."""
    everyone = tuple(to.strip() for to in claimed.mail.recipients.split(","))
    left = tuple(to for to in everyone if to not in claimed.earlier)
    return Message(claimed.claim, Envelope("sender@example.org", left), b"Subject: s\r\n\r\nt\r\n")
