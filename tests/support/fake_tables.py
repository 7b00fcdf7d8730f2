"""The tables in memory, and what the screens read from them: the contract tests hold it to what the databases do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from support.fake_clock import FakeClock

from mailbatch.domain.census import Census, ErrorGroup, ScheduledJob
from mailbatch.domain.figures import DURATIONS, LAGS, RECENT, CircuitFigures, Figures, Histogram, JobFigures
from mailbatch.domain.health import HealthSnapshot
from mailbatch.domain.lifecycle import TABLE, Attempts, Event
from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import DuplicateRow
from mailbatch.domain.run import COUNTED, DEAD_AFTER, ITEMS_WAIT, Pause, RunOutcome
from mailbatch.domain.run_notification import QUIET
from mailbatch.domain.settlement import AWAY_FOR, Tally
from mailbatch.infrastructure.db.runs import DIED
from mailbatch.infrastructure.db.schedule import EntryState
from mailbatch.infrastructure.db.settling import accepted_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from support.fake_files import KeptFile
    from support.fake_idempotency import RequestRow
    from support.fake_notifying import IncidentRow, OutboxRow

    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.rows import ActionRow, AttemptRow, LaneRow, ReservationRow, RunPlace, RunRow
    from mailbatch.domain.run import Counts, ItemError

_BEGAN = datetime(2026, 11, 28, 12, tzinfo=UTC) - timedelta(seconds=FakeClock.now)
SOON = timedelta(seconds=60)


@dataclass
class FakeTables:
    """The rows, and the clock by which they are written and read. It stands still until a test moves it.

    ``settled``: what each helper of a run has settled, by run and lane.
    """

    clock: FakeClock = field(default_factory=FakeClock)
    reservations: dict[UUID, ReservationRow] = field(default_factory=dict)
    files: dict[str, KeptFile] = field(default_factory=dict)
    attempts: list[AttemptRow] = field(default_factory=list)
    runs: dict[UUID, RunRow] = field(default_factory=dict)
    lanes: dict[tuple[UUID, int], LaneRow] = field(default_factory=dict)
    settled: dict[tuple[UUID, int], Counts] = field(default_factory=dict)
    errors: dict[UUID, list[ItemError]] = field(default_factory=dict)
    slots: dict[str, EntryState] = field(default_factory=dict)
    circuits: dict[str, Circuit] = field(default_factory=dict)
    quotas: dict[tuple[str, date], int] = field(default_factory=dict)
    run_reports: dict[tuple[UUID, str], OutboxRow] = field(default_factory=dict)
    incidents: dict[tuple[str, str], IncidentRow] = field(default_factory=dict)
    requests: dict[str, RequestRow] = field(default_factory=dict)
    actions: list[ActionRow] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return _BEGAN + timedelta(seconds=self.clock.now)

    def since(self, when: datetime | None) -> float | None:
        """Seconds from ``when`` to now."""
        return None if when is None else (self.now - when).total_seconds()

    def pending(self, by: datetime | None = None, *, expired: bool = False) -> list[ReservationRow]:
        """What is due by then, in the order in which a run claims it; with ``expired`` also what is too late."""
        end = by or self.now
        come = [r for r in self.reservations.values() if r.status is Status.PENDING and r.due_at <= end]
        due = [r for r in come if expired or r.expires_at is None or r.expires_at > end]
        return sorted(due, key=lambda r: (-r.priority, r.due_at, r.id))

    def held_back(self) -> list[ReservationRow]:
        """What would be due if no gate held it back."""
        waiting = (r for r in self.reservations.values() if r.status is Status.PENDING and r.waits_for is not None)
        return [r for r in waiting if r.due_at > self.now and (r.expires_at is None or r.expires_at > self.now)]

    def in_state(self, status: Status) -> list[ReservationRow]:
        return [r for r in self.reservations.values() if r.status is status]

    def runs_of(self, job: str) -> list[RunRow]:
        """The runs of ``job``, newest first."""
        mine = [replace(r, silent=self.since(r.heartbeat_at)) for r in self.runs.values() if r.job == job]
        return sorted(mine, key=lambda r: (r.started_at, r.run_id), reverse=True)


_ATTEMPTS: Mapping[Attempts, Callable[[int], int]] = {
    Attempts.KEEP: lambda attempts: attempts,
    Attempts.USE: lambda attempts: attempts + 1,
    Attempts.COUNTED: lambda attempts: max(attempts, 1),
    Attempts.RESET: lambda _: 0,
}


def after_event(row: ReservationRow, event: Event, now: datetime, error: str | None = None) -> ReservationRow:
    """Return the row as the table of states says. Raises ``KeyError`` if ``event`` changes nothing in this state."""
    change = TABLE[event][row.status]
    return replace(
        row,
        status=change.status,
        attempts=_ATTEMPTS[change.attempts](row.attempts),
        finished_at=now if change.finished else None,
        last_error=error if change.sets_error else row.last_error,
        waits_for=None,
        lease_until=row.lease_until if change.status is Status.SENDING else None,
    )


@dataclass
class FakeReports:
    """The port ``Reports``."""

    tables: FakeTables = field(default_factory=FakeTables)

    def census(self) -> Census:
        due = self.tables.pending()
        return Census(
            counts={status: len(self.tables.in_state(status)) for status in Status},
            due=len(due),
            oldest_due_seconds=self.tables.since(min((r.due_at for r in due), default=None)),
            exact=True,
        )

    def runs(self, job: str, limit: int, before: RunPlace | None = None, *, quiet: bool = True) -> list[RunRow]:
        found = self.tables.runs_of(job)
        if before is not None:
            found = [r for r in found if (r.started_at, r.run_id) < (before.started_at, before.run_id)]
        return [r for r in found if quiet or _is_worth_a_look(r)][:limit]

    def run(self, run_id: UUID) -> RunRow | None:
        found = self.tables.runs.get(run_id)
        return found and replace(found, silent=self.tables.since(found.heartbeat_at))

    def lane(self, run_id: UUID, lane: int) -> LaneRow | None:
        return self.tables.lanes.get((run_id, lane))

    def errors(self, run_id: UUID, after: int = 0) -> Iterator[ItemError]:
        found = sorted(self.tables.errors.get(run_id, []), key=lambda error: error.index)
        return (error for error in found if error.index > after)

    def error_groups(self, run_id: UUID) -> list[ErrorGroup]:
        counted = {tally.value for tally in Tally} - {Tally.SENT.value, Tally.RELEASED.value}
        groups: dict[tuple[Any, ...], list[str | None]] = {}
        for a in self.tables.attempts:
            if a.run_id == run_id and a.outcome in counted:
                groups.setdefault((a.outcome, a.reply_code, a.enhanced_code), []).append(a.reply_text)
        examples = {kind: min(filter(None, texts), default=None) for kind, texts in groups.items()}
        found = [ErrorGroup(*kind, len(texts), examples[kind]) for kind, texts in groups.items()]
        return sorted(found, key=lambda g: (-g.count, g.outcome, g.reply_code or 0, g.enhanced_code or ""))

    def jobs(self) -> list[ScheduledJob]:
        known = {r.job: ScheduledJob(r.job) for r in self.tables.runs.values()}
        known |= {s.name: ScheduledJob(s.name, s.paused, s.next_tick_at) for s in self.tables.slots.values()}
        return [known[name] for name in sorted(known)]


def _is_worth_a_look(run: RunRow) -> bool:
    return run.outcome is None or run.outcome not in QUIET or any(getattr(run, n) for n in (*COUNTED, "remaining"))


@dataclass
class FakeHealthQuery:
    """The port ``HealthQuery``."""

    tables: FakeTables = field(default_factory=FakeTables)

    def health(self, job: str, ended_for: float) -> HealthSnapshot:
        t, now = self.tables, self.tables.now
        runs, slot = t.runs_of(job), t.slots.get(job, EntryState(job))
        goes_on = max((r for r in runs if r.outcome is None), key=lambda r: r.heartbeat_at, default=None)
        leases = [r.lease_until for r in t.in_state(Status.SENDING) if r.lease_until is not None]
        ended = [lease for lease in leases if lease < now - timedelta(seconds=ended_for)]
        next_tick = t.since(slot.next_tick_at)
        fault = self._fault(runs)
        return HealthSnapshot(
            now=now,
            oldest_due=t.since(min((r.due_at for r in t.pending()), default=None)),
            oldest_waiting=t.since(min((r.due_at for r in t.pending(expired=True)), default=None)),
            last_sign=t.since(max((r.heartbeat_at for r in runs[:5]), default=None)),
            last_tick=t.since(slot.last_tick_at),
            next_tick=None if next_tick is None else -next_tick,
            next_tick_at=slot.next_tick_at,
            open_run=goes_on and goes_on.run_id,
            run_age=t.since(goes_on and goes_on.started_at),
            silent=t.since(goes_on and goes_on.heartbeat_at),
            died=t.since(runs[0].finished_at) if runs and runs[0].error == DIED else None,
            under_way=sum(lease >= now for lease in leases),
            answered=t.since(max(self._answers(), default=None)),
            ended=len(ended),
            oldest_ended=t.since(min(ended, default=None)),
            fault=fault and fault[0],
            fault_age=t.since(fault and fault[1]),
        )

    def _fault(self, runs: list[RunRow]) -> tuple[str, datetime | None] | None:
        if not self.tables.in_state(Status.PENDING):
            return None
        went = [r for r in runs[:5] if r.outcome in {RunOutcome.COMPLETED, RunOutcome.FAILED}]
        recent = [r for r in went if (self.tables.since(r.finished_at) or 0) < AWAY_FOR + 60]
        for run in dict.fromkeys([*went[:1], *recent]):
            lanes = [lane.error for (run_id, _), lane in self.tables.lanes.items() if run_id == run.run_id]
            for error in (run.error, *lanes):
                if error is not None and error.startswith(ITEMS_WAIT):
                    return error, run.finished_at
        return None

    def _answers(self) -> Iterator[datetime]:
        sent = [r.finished_at for r in self.tables.in_state(Status.SENT)]
        refused = [a.ended_at for a in self.tables.attempts if a.outcome in {"failed", "deferred"}]
        return (at for at in (*sent, *refused) if at is not None and at <= self.tables.now + SOON)


@dataclass
class FakeUpcoming:
    """The port ``Upcoming``."""

    tables: FakeTables = field(default_factory=FakeTables)
    cap: int = 100_000

    def count(self, by: datetime | None) -> tuple[int, bool]:
        found = len(self.tables.pending(by, expired=True))
        late = found - len(self.tables.pending(by))
        return max(0, min(found, self.cap) - late), found <= self.cap

    def mails(self, by: datetime | None, limit: int) -> Iterator[ClaimedMail]:
        for index, row in enumerate(self.tables.pending(by)[:limit], 1):
            yield row.as_claimed(index, accepted_in(row.verdicts))

    def ahead(self, row: ReservationRow, most: int) -> int:
        key = (-row.priority, row.due_at, row.id)
        return min(most, sum((-r.priority, r.due_at, r.id) < key for r in self.tables.pending()))


@dataclass
class FakeDuplicates:
    """The port ``Duplicates``."""

    tables: FakeTables = field(default_factory=FakeTables)

    def resent(self, since: datetime | None, limit: int) -> Sequence[DuplicateRow]:
        doubts = [a for a in self.tables.attempts if a.outcome == Tally.IN_DOUBT.value]
        found: dict[UUID, DuplicateRow] = {}
        for a in sorted(doubts, key=lambda a: a.ended_at, reverse=True):
            row = self.tables.reservations[a.reservation_id]
            again = [d.ended_at for d in doubts if d.reservation_id == row.id and d.claim_no > a.claim_no]
            some_took_it = a.verdicts is None and any(v["kind"] == "accepted" for v in (row.verdicts or {}).values())
            went_again = row.claim_no > a.claim_no and (row.status is Status.SENT or again or some_took_it)
            if went_again and (since is None or a.ended_at >= since):
                found.setdefault(row.id, _duplicate(row, a, row.sent_at or max(again, default=None)))
        return list(found.values())[:limit]


def _duplicate(row: ReservationRow, doubt: AttemptRow, sent_at: datetime | None) -> DuplicateRow:
    return DuplicateRow(
        reservation_id=row.id,
        recipients=row.recipients,
        message_id=row.message_id,
        doubt_at=doubt.ended_at,
        doubt_relay=doubt.relay,
        doubt_run_id=doubt.run_id,
        sent_at=sent_at,
        relay=row.relay,
        reply_text=row.reply_text,
        run_id=row.run_id,
    )


@dataclass
class FakeMeasures:
    """The port ``Measures``."""

    tables: FakeTables = field(default_factory=FakeTables)

    def figures(self) -> Figures:
        t = self.tables
        recent = t.now - timedelta(seconds=RECENT)
        living = [r for r in t.runs.values() if r.outcome is None and (t.since(r.heartbeat_at) or 0) <= DEAD_AFTER]
        since = min([t.now, *(r.started_at for r in living)]).replace(hour=0, minute=0, second=0, microsecond=0)
        refused = (a for a in t.attempts if a.outcome in {"failed", "deferred", "in_doubt"} and a.ended_at >= recent)
        sent = [r for r in t.in_state(Status.SENT) if r.finished_at and recent <= r.finished_at <= t.now + SOON]
        doubts = [r.wire_at or r.created_at for r in t.in_state(Status.IN_DOUBT)]
        return Figures(
            since=since,
            jobs=[self._job(name, since) for name in sorted({*(r.job for r in t.runs.values()), *t.slots})],
            refusals=Counter((a.outcome, f"{a.reply_code // 100}xx" if a.reply_code else "none") for a in refused),
            lags=_histogram(((r.finished_at or t.now) - r.due_at for r in sent), LAGS),
            in_doubt_oldest=t.since(min(doubts, default=None)),
            circuits=[CircuitFigures(c.relay, c.state.value, c.failures) for c in t.circuits.values()],
        )

    def _job(self, name: str, since: datetime) -> JobFigures:
        t, slot = self.tables, self.tables.slots.get(name)
        runs = t.runs_of(name)
        counted = [r for r in runs if r.started_at >= since]
        started = next((r for r in runs if r.outcome is not RunOutcome.PAUSED), None)
        ended = next((r for r in runs if r.outcome is not None), None)
        busy = [r for r in counted if any(getattr(r, item) for item in COUNTED) and r.duration is not None]
        return JobFigures(
            job=name,
            paused=slot is not None and slot.paused is not Pause.NONE,
            running=any(r.outcome is None and (r.silent or 0) <= DEAD_AFTER for r in runs),
            last_tick_at=slot and slot.last_tick_at,
            next_tick_at=slot and slot.next_tick_at,
            started_at=started and started.started_at,
            silent=t.since(started and started.started_at),
            finished_at=ended and ended.finished_at,
            outcome=ended and ended.outcome,
            remaining=ended.remaining if ended else 0,
            runs=Counter(r.outcome.value for r in counted if r.outcome),
            items={item: sum(getattr(r, item) for r in counted) for item in COUNTED},
            durations=_histogram((timedelta(seconds=r.duration or 0) for r in busy), DURATIONS),
        )


def _histogram(lengths: Iterable[timedelta], ends: Sequence[float]) -> Histogram:
    seconds = [length.total_seconds() for length in lengths]
    return Histogram((*(sum(s <= end for s in seconds) for end in ends), len(seconds)), sum(seconds))
