"""The other stores of a run in memory, and a run in progress."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from support.fake_clock import FakeClock

from mailbatch.domain.circuit import Circuit, CircuitState
from mailbatch.domain.errors import StoreError
from mailbatch.domain.message import Envelope, Message
from mailbatch.domain.run import Counts, Pause, RunOutcome, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.reply_kinds import Concern
    from mailbatch.domain.run import ItemError, OpenRun, RunReport


@dataclass
class FakeRuns:
    """The port ``Runs``. ``away``: how many more writes of a run's end fail."""

    clock: FakeClock = field(default_factory=FakeClock)
    away: int = 0
    rows: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    noted: dict[UUID, list[ItemError]] = field(default_factory=dict)

    def open(self, run_id: UUID, job: str, trigger: Trigger, bound: int) -> None:
        self.rows[run_id] = {"job": job, "trigger": trigger, "bound": bound, "outcome": None, "beat": self.clock.now}

    def beat(self, run_id: UUID, counts: Counts) -> None:
        self.rows[run_id] |= {"beat": self.clock.now, "counts": counts}

    def errors(self, run_id: UUID, errors: Sequence[ItemError]) -> None:
        self._check()
        known = {e.index for e in self.noted.setdefault(run_id, [])}
        self.noted[run_id] += [e for e in errors if e.index not in known]

    def close(self, job: str, report: RunReport, error: str | None) -> None:
        self._check()
        assert report.run_id is not None
        self.rows[report.run_id] |= {"outcome": report.outcome, "counts": report.counts, "error": error}

    def _check(self) -> None:
        if self.away > 0:
            self.away -= 1
            raise StoreError("away", transient=True)

    def open_run(self, job: str) -> OpenRun | None:
        raise NotImplementedError

    def close_dead(self, job: str, silent: float, remaining: Callable[[], int] = lambda: 0) -> list[UUID]:
        dead = [
            run_id
            for run_id, row in self.rows.items()
            if row["job"] == job and row["outcome"] is None and row["beat"] < self.clock.now - silent
        ]
        for run_id in dead:
            self.rows[run_id] |= {"outcome": "failed", "remaining": remaining()}
        return dead

    def first_errors(self, run_id: UUID, limit: int) -> list[ItemError]:
        return sorted(self.noted.get(run_id, []), key=lambda error: error.index)[:limit]

    def outcome_of(self, run_id: UUID) -> RunOutcome | None:
        return self.rows[run_id]["outcome"]

    def request_stop(self, run_id: UUID) -> bool:
        row = self.rows.get(run_id)
        if row is None or row["outcome"] is not None or row.get("stop") is not None:
            return False
        row["stop"] = RunOutcome.REVOKED
        return True

    def stop_request(self, run_id: UUID) -> RunOutcome | None:
        return self.rows[run_id].get("stop")


@dataclass
class FakeCircuits:
    """The port ``Circuits``."""

    clock: FakeClock = field(default_factory=FakeClock)
    rows: dict[str, Circuit] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)
    failing: StoreError | None = None

    def look(self, relay: str) -> Circuit:
        self._check()
        left = max(0.0, self.until.get(relay, 0.0) - self.clock.now)
        return replace(self.rows.get(relay, Circuit(relay=relay)), seconds_left=left)

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
            self.until[relay] = self.clock.now + seconds
            at = datetime.fromtimestamp(self.clock.now, UTC)
            self.rows[relay] = Circuit(
                relay=relay,
                state=CircuitState.OPEN,
                failures=was.failures + 1,
                reason=reason,
                opened_at=at,
                open_until=at + timedelta(seconds=seconds),
                concern=concern,
                suspects=dict(suspects or {}),
            )
        return self.look(relay)

    def half_open(self, relay: str) -> None:
        self._check()
        if relay in self.rows:
            self.rows[relay] = replace(self.rows[relay], state=CircuitState.HALF_OPEN)

    def close(self, relay: str) -> None:
        self._check()
        self.rows[relay] = Circuit(relay=relay, suspects=self.rows.get(relay, Circuit(relay=relay)).suspects)
        self.until.pop(relay, None)

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing


@dataclass
class FakeLane:
    """A helper of a run. ``beat`` and ``left`` are times of the runs' clock."""

    beat: float
    left: float | None = None
    error: str | None = None
    counts: Counts = field(default_factory=Counts)


@dataclass
class FakeLanes:
    """The port ``Lanes``, beside the rows of ``runs``."""

    runs: FakeRuns = field(default_factory=FakeRuns)
    rows: dict[tuple[UUID, int], FakeLane] = field(default_factory=dict)

    def join(self, run_id: UUID, lane: int) -> bool:
        run = self.runs.rows.get(run_id)
        if run is None or run["outcome"] is not None or run.get("stop") is not None or (run_id, lane) in self.rows:
            return False
        self.rows[run_id, lane] = FakeLane(self.runs.clock.now)
        return True

    def beat(self, run_id: UUID, lane: int) -> None:
        self.rows[run_id, lane].beat = self.runs.clock.now

    def leave(self, run_id: UUID, lane: int, error: str | None) -> None:
        mine = self.rows[run_id, lane]
        mine.left, mine.error = self.runs.clock.now, error

    def living(self, run_id: UUID, silent: float) -> int:
        since = self.runs.clock.now - silent
        return sum(lane.left is None and lane.beat > since for (of, _), lane in self.rows.items() if of == run_id)

    def seal(self, run_id: UUID, silent: float) -> bool:
        if self.living(run_id, silent):
            return False
        self.request_stop(run_id, RunOutcome.COMPLETED)
        return True

    def counts(self, run_id: UUID) -> Counts:
        return sum((lane.counts for (of, _), lane in self.rows.items() if of == run_id), Counts())

    def request_stop(self, run_id: UUID, reason: RunOutcome) -> None:
        run = self.runs.rows[run_id]
        run["stop"] = run.get("stop") or reason

    def must_stop(self, run_id: UUID, silent: float) -> RunOutcome | None:
        run = self.runs.rows.get(run_id)
        if run is not None and run.get("stop") is not None:
            return RunOutcome(run["stop"])
        goes_on = run is not None and run["outcome"] is None and run["beat"] > self.runs.clock.now - silent
        return None if goes_on else RunOutcome.LOCK_LOST


@dataclass
class FakePauseStore:
    """The port ``PauseStore``."""

    pauses: dict[str, Pause] = field(default_factory=dict)

    def paused(self, job: str) -> Pause:
        return self.pauses.get(job, Pause.NONE)

    def set(self, job: str, pause: Pause) -> None:
        self.pauses[job] = pause


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


def plain_message(claimed: ClaimedMail) -> Message:
    """The port ``Composer``: it only addresses the envelope."""
    everyone = tuple(to.strip() for to in claimed.mail.recipients.split(","))
    left = tuple(to for to in everyone if to not in claimed.earlier)
    return Message(claimed.claim, Envelope("sender@example.org", left), b"Subject: s\r\n\r\nt\r\n")
