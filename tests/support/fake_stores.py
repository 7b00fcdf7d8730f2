"""The stores of a run in memory. ``tests/contract/test_backlog.py`` makes sure that they behave as the databases do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from mailbatch.domain.circuit import Circuit, CircuitState
from mailbatch.domain.claimed import Claimed, ClaimedMail, Cursor, DoubtsResolved, Page, Without
from mailbatch.domain.errors import StoreError
from mailbatch.domain.lifecycle import OnDoubt, Settlement
from mailbatch.domain.message import Claim, Envelope, Message
from mailbatch.domain.outcome import Kind
from mailbatch.domain.reservation import Mail, Status
from mailbatch.domain.retry import ALONE_AFTER, RetryPolicy
from mailbatch.domain.run import Counts, Pause, RunOutcome, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from mailbatch.domain.reply_kinds import Concern
    from mailbatch.domain.run import ItemError, OpenRun, RunReport


@dataclass
class FakeClock:
    """The port ``Clock``: time passes when somebody sleeps, or when a test sets it."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeRow:
    id: UUID
    mail: Mail
    due_at: float
    priority: int = 0
    expires_at: float | None = None
    status: Status = Status.PENDING
    attempts: int = 0
    claim_no: int = 0
    run_id: UUID | None = None
    lane: int | None = None
    lease_until: float | None = None
    wire_at: float | None = None
    deaths: int = 0
    last_error: str | None = None
    settled: Settlement | None = None
    verdicts: dict[str, Any] = field(default_factory=dict)
    tag: str | None = None


@dataclass
class FakeBacklog:
    """The port ``Backlog``. ``failing`` makes the named verbs raise; mails above ``inline`` bytes must be loaded."""

    clock: FakeClock = field(default_factory=FakeClock)
    lease: float = 60.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_lateness: float = 0.0
    inline: int = 1000
    strict: bool = False
    stopped: set[UUID] = field(default_factory=set)
    rows: dict[UUID, FakeRow] = field(default_factory=dict)
    claimed: dict[UUID, int] = field(default_factory=dict)
    failing: dict[str, StoreError] = field(default_factory=dict)
    pages: list[int] = field(default_factory=list)

    def reserve(
        self,
        *,
        due: float = 0.0,
        expires: float | None = None,
        priority: int = 0,
        tag: str | None = None,
        **mail: Any,
    ) -> UUID:
        """Reserve a mail, due ``due`` seconds from now."""
        given = {"recipients": "ann@example.org", "subject": "s", "body_text": "t", **mail}
        ends = None if expires is None else self.clock.now + expires
        row = FakeRow(uuid4(), Mail(**given), self.clock.now + due, priority, ends, tag=tag)
        self.rows[row.id] = row
        return row.id

    def claim(self, run_id: UUID, lane: int, after: Cursor | None, limit: int, without: Without | None = None) -> Page:
        self._check("claim")
        key = None if after is None else (-after.priority, after.due_at, after.reservation_id)
        ahead = [r for r in self._due() if key is None or (-r.priority, r.due_at, r.id) > key]
        due = [r for r in ahead if r.deaths < ALONE_AFTER and not _is_of(r, without or Without())][:limit]
        page = self._take(due, run_id, lane, strict=self.strict)
        last = due[-1] if len(due) >= limit else None
        cursor = Cursor(last.priority, last.due_at, last.id) if last else None
        return Page(page, cursor, has_isolated=bool(ahead) and not due)

    def claim_isolated(self, run_id: UUID, lane: int) -> Page:
        self._check("claim")
        suspects = [r for r in self._due() if r.deaths >= ALONE_AFTER]
        due = sorted(suspects, key=lambda r: (-r.priority, r.claim_no, r.due_at, r.id))[:1]
        return Page(self._take(due, run_id, lane, strict=True), None)

    def _take(self, due: list[FakeRow], run_id: UUID, lane: int, *, strict: bool) -> list[Claimed]:
        first = self.claimed.get(run_id, 0) + 1
        self.claimed[run_id] = first + len(due) - 1
        self.pages.append(len(due))
        for row in due:
            row.status, row.run_id, row.lane = Status.SENDING, run_id, lane
            row.claim_no += 1
            row.lease_until, row.wire_at = self.clock.now + self.lease, None if strict else self.clock.now
        return [self._claimed(row, index) for index, row in enumerate(due, first)]

    def settle_and_claim(
        self,
        run_id: UUID,
        lane: int,
        settlements: Sequence[Settlement],
        after: Cursor | None,
        limit: int,
        without: Without | None = None,
    ) -> tuple[set[Claim], Page]:
        self._check("settle_and_claim")
        self._check("claim")
        return self.settle(run_id, lane, settlements), self.claim(run_id, lane, after, limit, without)

    def load(self, claimed: Sequence[Claimed]) -> list[ClaimedMail]:
        self._check("load")
        return [
            _mail(row, c.claim, c.index)
            for c in claimed
            if (row := self.rows[c.claim.reservation_id]).claim_no == c.claim.claim_no and row.status is Status.SENDING
        ]

    def settle(self, run_id: UUID, lane: int, settlements: Sequence[Settlement]) -> set[Claim]:
        self._check("settle")
        held = set()
        for s in settlements:
            row = self.rows[s.claim.reservation_id]
            late = s.status is Status.SENT and row.status in {Status.IN_DOUBT, Status.PENDING}
            if row.claim_no == s.claim.claim_no and (row.status is Status.SENDING or late):
                self._write(row, s)
                held.add(s.claim)
            elif s.attempted and row.settled == s:
                held.add(s.claim)  # the answer to its commit was lost
        return held

    def commit_intent(self, run_id: UUID, claims: Sequence[Claim]) -> set[Claim]:
        self._check("commit_intent")
        held = set()
        for claim in claims if run_id not in self.stopped else ():
            row = self.rows[claim.reservation_id]
            holds = row.claim_no == claim.claim_no and row.status is Status.SENDING
            if holds and (row.lease_until or 0) > self.clock.now:
                row.wire_at = self.clock.now
                held.add(claim)
        return held

    def release_orphans(self, run_id: UUID, lane: int, held: Collection[Claim]) -> int:
        self._check("release_orphans")
        mine = [r for r in self.rows.values() if r.status is Status.SENDING and (r.run_id, r.lane) == (run_id, lane)]
        strays = [row for row in mine if Claim(row.id, row.claim_no) not in held]
        for row in strays:
            row.status, row.lease_until, row.wire_at = Status.PENDING, None, None
        return len(strays)

    def renew(self, run_id: UUID, lane: int) -> None:
        self._check("renew")
        for row in self.rows.values():
            mine = row.status is Status.SENDING and (row.run_id, row.lane) == (run_id, lane)
            if mine and row.lease_until is not None and row.lease_until > self.clock.now:
                row.lease_until = self.clock.now + self.lease

    def expire(self, limit: int) -> int:
        self._check("expire")
        gone = [r for r in self.rows.values() if r.status is Status.PENDING and self._too_late(r)][:limit]
        for row in gone:
            row.status = Status.EXPIRED
        return len(gone)

    def resolve_doubts(self, run_id: UUID, on_doubt: OnDoubt, limit: int) -> DoubtsResolved:
        self._check("resolve_doubts")
        released = resent = held = 0
        doubtful: list[tuple[int, UUID]] = []
        quarantined: list[tuple[int, UUID]] = []
        sending = [r for r in self.rows.values() if r.status is Status.SENDING and (r.run_id, r.lane) != (run_id, 0)]
        ended = [r for r in sending if (r.lease_until or 0) <= self.clock.now]
        for row in ended[:limit]:
            row.lease_until = None
            row.deaths += 1
            if row.wire_at is None:
                row.attempts += row.deaths > ALONE_AFTER
                row.status = Status.FAILED if row.deaths >= self.retry.deaths else Status.PENDING
                if row.status is Status.PENDING:
                    released += 1
                else:
                    self.claimed[run_id] = self.claimed.get(run_id, 0) + 1
                    quarantined.append((self.claimed[run_id], row.id))
                continue
            row.attempts += 1
            self.claimed[run_id] = self.claimed.get(run_id, 0) + 1
            doubtful.append((self.claimed[run_id], row.id))
            if on_doubt is OnDoubt.HOLD or self.retry.exhausted(row.attempts):
                row.status, held = Status.IN_DOUBT, held + 1
            else:
                row.status, resent = Status.PENDING, resent + 1
        return DoubtsResolved(released, resent, held, doubtful, quarantined)

    def remaining(self) -> int:
        self._check("remaining")
        return len(self._due()) + sum(r.status is Status.SENDING for r in self.rows.values())

    def _claimed(self, row: FakeRow, index: int) -> Claimed:
        claim, size = Claim(row.id, row.claim_no), _size(row.mail)
        return Claimed(claim, index, size, _mail(row, claim, index) if size <= self.inline else None)

    def _due(self) -> list[FakeRow]:
        due = [r for r in self.rows.values() if r.status is Status.PENDING and r.due_at <= self.clock.now]
        alive = [r for r in due if r.expires_at is None or r.expires_at > self.clock.now]
        return sorted(alive, key=lambda r: (-r.priority, r.due_at, r.id))

    def _too_late(self, row: FakeRow) -> bool:
        passed = row.expires_at is not None and row.expires_at <= self.clock.now
        return passed or bool(self.max_lateness and row.due_at <= self.clock.now - self.max_lateness)

    def _write(self, row: FakeRow, s: Settlement) -> None:
        row.attempts = row.attempts + s.attempted if row.status is Status.SENDING else max(row.attempts, 1)
        row.wire_at = row.wire_at if s.status is Status.IN_DOUBT else None
        row.status, row.lease_until, row.deaths, row.settled = s.status, None, 0, s
        if s.retry_in is not None:
            row.due_at = self.clock.now + s.retry_in
        if s.attempted or s.errors:
            row.last_error = " ".join(s.errors) or None
        if s.attempted or s.verdicts is not None:
            row.verdicts = dict(s.verdicts or {})

    def _check(self, verb: str) -> None:
        if verb in self.failing:
            raise self.failing[verb]


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

    def tell_to_stop(self, run_id: UUID) -> bool:
        row = self.rows.get(run_id)
        if row is None or row["outcome"] is not None or row.get("stop") is not None:
            return False
        row["stop"] = RunOutcome.REVOKED
        return True

    def told_to_stop(self, run_id: UUID) -> RunOutcome | None:
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
        return replace(self.rows.get(relay, Circuit(relay=relay)), left=left)

    def open(
        self,
        relay: str,
        reason: str,
        seconds: float,
        concern: Concern | None = None,
        suspects: Mapping[UUID, int] | None = None,
    ) -> Circuit:
        was = self.look(relay)
        if was.state is not CircuitState.OPEN or was.left <= 0:
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
class FakeSwitch:
    """The port ``PauseStore``."""

    pause: Pause = Pause.NONE

    def paused(self, job: str) -> Pause:
        return self.pause

    def set(self, job: str, pause: Pause) -> None:
        self.pause = pause


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

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        self.upkeep.append(callback)

    def count(self, counts: Counts) -> None:
        self.counts += counts

    def set_helper_counts(self, counts: Counts) -> None:
        self.others = counts

    def item_error(self, error: ItemError) -> None:
        self.errors.append(error)


def plain_message(claimed: ClaimedMail) -> Message:
    """A composer that only addresses the envelope."""
    everyone = tuple(to.strip() for to in claimed.mail.recipients.split(","))
    left = tuple(to for to in everyone if to not in claimed.earlier)
    return Message(claimed.claim, Envelope("sender@example.org", left), b"Subject: s\r\n\r\nt\r\n")


def _mail(row: FakeRow, claim: Claim, index: int) -> ClaimedMail:
    return ClaimedMail(
        claim=claim,
        index=index,
        mail=row.mail,
        message_id=f"<{row.id}@test.invalid>",
        attempts=row.attempts,
        earlier={to: v for to, v in row.verdicts.items() if v.kind is Kind.ACCEPTED},
        tag=row.tag,
    )


def _is_of(row: FakeRow, groups: Without) -> bool:
    return row.tag in groups.tags or (not row.tag and row.mail.template in groups.templates)


def _size(mail: Mail) -> int:
    return len((mail.body_text or "").encode()) + len((mail.body_html or "").encode())
