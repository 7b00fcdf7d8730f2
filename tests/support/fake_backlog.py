"""The port ``Backlog`` in memory. The contract tests hold it to what the databases do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from support.fake_clock import FakeClock

from mailbatch.domain.claimed import Claimed, ClaimedMail, Cursor, DoubtsResolved, Page, Without
from mailbatch.domain.lifecycle import (
    EXPIRED,
    TABLE,
    Attempts,
    Event,
    OnDoubt,
    late_reason,
    lease_ended,
    lease_error,
    sources,
)
from mailbatch.domain.message import Claim
from mailbatch.domain.outcome import Kind
from mailbatch.domain.reservation import Mail, Status
from mailbatch.domain.retry import ALONE_AFTER, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from mailbatch.domain.errors import StoreError
    from mailbatch.domain.outcome import Verdict
    from mailbatch.domain.settlement import Settlement

_ATTEMPTS: Mapping[Attempts, Callable[[int], int]] = {
    Attempts.KEEP: lambda attempts: attempts,
    Attempts.USE: lambda attempts: attempts + 1,
    Attempts.COUNTED: lambda attempts: max(attempts, 1),
    Attempts.RESET: lambda _: 0,
}


@dataclass
class FakeRow:
    """A reservation. Times are seconds of the backlog's clock; ``deaths`` counts senders that died in a row with it."""

    id: UUID
    mail: Mail
    due_at: float
    priority: int = 0
    expires_at: float | None = None
    tag: str | None = None
    status: Status = Status.PENDING
    attempts: int = 0
    finished: bool = False
    last_error: str | None = None
    claim_no: int = 0
    run_id: UUID | None = None
    lane: int | None = None
    lease_until: float | None = None
    wire_at: float | None = None
    deaths: int = 0
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    settled: Settlement | None = None

    @property
    def claim(self) -> Claim:
        """The newest claim of it."""
        return Claim(self.id, self.claim_no)

    @property
    def order(self) -> tuple[int, float, UUID]:
        """Its place in the order in which reservations are claimed."""
        return -self.priority, self.due_at, self.id

    def happens(self, event: Event, error: str | None = None) -> bool:
        """Let ``event`` happen if the table of states allows it now; return whether it did."""
        change = TABLE[event].get(self.status)
        if change is None:
            return False
        self.status, self.finished = change.status, change.finished
        self.attempts = _ATTEMPTS[change.attempts](self.attempts)
        if change.sets_error:
            self.last_error = error
        if change.status is not Status.SENDING:
            self.lease_until = None
        return True

    def is_expired(self, now: float) -> bool:
        """Whether its ``expires_at`` has passed."""
        return self.expires_at is not None and self.expires_at <= now

    def is_held_by(self, run_id: UUID, lane: int) -> bool:
        """Whether this lane has claimed it."""
        return self.status is Status.SENDING and (self.run_id, self.lane) == (run_id, lane)

    def has_lease(self, now: float) -> bool:
        """Whether it is claimed, and the lease lasts."""
        return self.status is Status.SENDING and self.lease_until is not None and self.lease_until > now

    def is_of(self, groups: Without) -> bool:
        """Whether it belongs to one of ``groups``."""
        return self.tag in groups.tags or (not self.tag and self.mail.template in groups.templates)

    def as_mail(self, index: int) -> ClaimedMail:
        """Return what a lane needs to send it."""
        return ClaimedMail(
            claim=self.claim,
            index=index,
            mail=self.mail,
            message_id=f"<{self.id}@test.invalid>",
            attempts=self.attempts,
            earlier={to: v for to, v in self.verdicts.items() if v.kind is Kind.ACCEPTED},
            tag=self.tag,
        )


@dataclass
class FakeBacklog:
    """The port ``Backlog``: reservations in ``rows``, by id. ``lease`` and ``max_lateness`` in seconds.

    Mails above ``inline`` bytes do not come with their claim. For a test: runs in ``stopped`` may not begin to send,
    methods named in ``failing`` raise, and ``pages`` has the size of each claimed page.
    """

    clock: FakeClock = field(default_factory=FakeClock)
    lease: float = 60.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_lateness: float = 0.0
    inline: int = 1000
    strict: bool = False
    rows: dict[UUID, FakeRow] = field(default_factory=dict)
    indexes: dict[UUID, int] = field(default_factory=dict)
    stopped: set[UUID] = field(default_factory=set)
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
        """Add a reservation, due and expiring so many seconds from now; return its id."""
        row = FakeRow(
            id=uuid4(),
            mail=Mail(**{"recipients": "ann@example.org", "subject": "s", "body_text": "t", **mail}),
            due_at=self.clock.now + due,
            priority=priority,
            expires_at=None if expires is None else self.clock.now + expires,
            tag=tag,
        )
        self.rows[row.id] = row
        return row.id

    # --- the port -----------------------------------------------------------------------------------------------

    def claim(self, run_id: UUID, lane: int, after: Cursor | None, limit: int, without: Without | None = None) -> Page:
        self._check("claim")
        key = None if after is None else (-after.priority, after.due_at, after.reservation_id)
        ahead = [row for row in self._due() if key is None or row.order > key]
        fit = [row for row in ahead if row.deaths < ALONE_AFTER and not row.is_of(without or Without())][:limit]
        last = fit[-1] if len(fit) >= limit else None
        cursor = Cursor(last.priority, last.due_at, last.id) if last else None
        return Page(self._take(fit, run_id, lane, strict=self.strict), cursor, has_isolated=bool(ahead) and not fit)

    def claim_isolated(self, run_id: UUID, lane: int) -> Page:
        self._check("claim")
        suspects = [row for row in self._due() if row.deaths >= ALONE_AFTER]
        suspects.sort(key=lambda row: (-row.priority, row.claim_no, row.due_at, row.id))
        return Page(self._take(suspects[:1], run_id, lane, strict=True), None)

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
        rows = [(self.rows[one.claim.reservation_id], one) for one in claimed]
        return [row.as_mail(one.index) for row, one in rows if row.claim == one.claim and row.status is Status.SENDING]

    def settle(self, run_id: UUID, lane: int, settlements: Sequence[Settlement]) -> set[Claim]:
        self._check("settle")
        return {s.claim for s in settlements if self._settle(self.rows[s.claim.reservation_id], s)}

    def commit_intent(self, run_id: UUID, claims: Sequence[Claim]) -> set[Claim]:
        self._check("commit_intent")
        if run_id in self.stopped:
            return set()
        rows = [self.rows[claim.reservation_id] for claim in claims]
        held = [row for row in rows if row.claim in claims and row.has_lease(self.clock.now)]
        for row in held:
            row.wire_at = self.clock.now
        return {row.claim for row in held}

    def release_orphans(self, run_id: UUID, lane: int, held: Collection[Claim]) -> int:
        self._check("release_orphans")
        orphans = [row for row in self.rows.values() if row.is_held_by(run_id, lane) and row.claim not in held]
        for row in orphans:
            row.happens(Event.RELEASED)
            row.wire_at, row.deaths = None, 0
        return len(orphans)

    def renew(self, run_id: UUID, lane: int) -> None:
        self._check("renew")
        for row in self.rows.values():
            if row.is_held_by(run_id, lane) and row.has_lease(self.clock.now):
                row.lease_until = self.clock.now + self.lease

    def expire(self, limit: int) -> int:
        self._check("expire")
        late = [r for r in self.rows.values() if r.status in sources(Event.EXPIRE) and self._is_too_late(r)][:limit]
        for row in late:
            row.happens(Event.EXPIRE, EXPIRED if row.is_expired(self.clock.now) else late_reason(self.max_lateness))
        return len(late)

    def resolve_doubts(self, run_id: UUID, on_doubt: OnDoubt, limit: int) -> DoubtsResolved:
        self._check("resolve_doubts")
        others = [row for row in self.rows.values() if row.status is Status.SENDING and not row.is_held_by(run_id, 0)]
        ended = [row for row in others if not row.has_lease(self.clock.now)][:limit]
        events = {row.id: self._end_lease(row, on_doubt) for row in ended}
        return DoubtsResolved.of(events, lambda count: self._reserve_indexes(run_id, count))

    def remaining(self) -> int:
        self._check("remaining")
        return len(self._due()) + sum(row.status is Status.SENDING for row in self.rows.values())

    # --- its parts ----------------------------------------------------------------------------------------------

    def _check(self, method: str) -> None:
        if method in self.failing:
            raise self.failing[method]

    def _due(self) -> list[FakeRow]:
        due = [row for row in self.rows.values() if row.status in sources(Event.CLAIM) and row.due_at <= self.clock.now]
        return sorted((row for row in due if not row.is_expired(self.clock.now)), key=lambda row: row.order)

    def _is_too_late(self, row: FakeRow) -> bool:
        late = bool(self.max_lateness) and row.due_at <= self.clock.now - self.max_lateness
        return late or row.is_expired(self.clock.now)

    def _reserve_indexes(self, run_id: UUID, count: int) -> int:
        first = self.indexes.get(run_id, 0) + 1
        self.indexes[run_id] = first + count - 1
        return first

    def _take(self, due: Sequence[FakeRow], run_id: UUID, lane: int, *, strict: bool) -> list[Claimed]:
        self.pages.append(len(due))
        for row in due:
            row.happens(Event.CLAIM)
            row.run_id, row.lane, row.claim_no = run_id, lane, row.claim_no + 1
            row.lease_until, row.wire_at = self.clock.now + self.lease, None if strict else self.clock.now
        return [self._claimed(row, index) for index, row in enumerate(due, self._reserve_indexes(run_id, len(due)))]

    def _claimed(self, row: FakeRow, index: int) -> Claimed:
        size = sum(len((body or "").encode()) for body in (row.mail.body_text, row.mail.body_html))
        return Claimed(row.claim, index, size, row.as_mail(index) if size <= self.inline else None)

    def _settle(self, row: FakeRow, s: Settlement) -> bool:
        if row.claim != s.claim or not row.happens(s.event, "; ".join(s.errors) or None):
            return s.attempted and row.settled == s  # It was written before, but the caller got no answer.
        row.wire_at = row.wire_at if row.status is Status.IN_DOUBT else None
        row.deaths, row.settled = 0, s
        if s.retry_in is not None:
            row.due_at = self.clock.now + s.retry_in
        if s.attempted or s.verdicts is not None:
            row.verdicts = dict(s.verdicts or {})
        return True

    def _end_lease(self, row: FakeRow, on_doubt: OnDoubt) -> Event:
        row.deaths += 1
        event = lease_ended(
            on_wire=row.wire_at is not None,
            deaths=row.deaths,
            attempts=row.attempts + 1,
            retry=self.retry,
            on_doubt=on_doubt,
        )
        row.happens(event, lease_error(event, self.retry))
        return event
