"""The port ``Backlog`` in memory, over the rows of ``FakeTables``.

The contract tests hold it to what the databases do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from support.fake_tables import FakeTables, after_event
from support.rows import attempt_row, reservation_row

from mailbatch.domain.claimed import Claimed, ClaimedMail, Cursor, DoubtsResolved, Page, Without
from mailbatch.domain.gate import NEVER
from mailbatch.domain.lifecycle import EXPIRED, NO_VERDICT, TABLE, Event, late_reason, lease_ended, lease_error, sources
from mailbatch.domain.message import Claim
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import ALONE_AFTER, RetryPolicy
from mailbatch.domain.run import Counts
from mailbatch.domain.settlement import Tally
from mailbatch.infrastructure.db.settling import accepted_in, stored_verdicts

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from support.fake_clock import FakeClock

    from mailbatch.domain.errors import StoreError
    from mailbatch.domain.lifecycle import OnDoubt
    from mailbatch.domain.rows import ReservationRow
    from mailbatch.domain.settlement import Settlement

_CRASHED = Event.CRASHED.value
_DIED = {Tally.IN_DOUBT.value, _CRASHED}
"""Outcomes of attempts whose sender may have died."""


@dataclass
class FakeBacklog:
    """The port ``Backlog`` over ``tables``. ``lease`` and ``max_lateness`` in seconds.

    Mails above ``inline`` bytes do not come with their claim. For a test: methods named in ``failing`` raise, and
    ``pages`` has the size of each claimed page.
    """

    tables: FakeTables = field(default_factory=FakeTables)
    lease: float = 60.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_lateness: float = 0.0
    inline: int = 1000
    strict: bool = False
    indexes: dict[UUID, int] = field(default_factory=dict)
    failing: dict[str, StoreError] = field(default_factory=dict)
    pages: list[int] = field(default_factory=list)

    @property
    def clock(self) -> FakeClock:
        return self.tables.clock

    @property
    def rows(self) -> dict[UUID, ReservationRow]:
        return self.tables.reservations

    # --- what a test puts into it -------------------------------------------------------------------------------

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
        expires_at = None if expires is None else self._in(expires)
        row = reservation_row(self._in(due), expires_at=expires_at, priority=priority, tag=tag, **mail)
        self.rows[row.id] = row
        return row.id

    def change(self, reservation_id: UUID, **columns: Any) -> None:
        """Write ``columns`` of a reservation."""
        self.rows[reservation_id] = replace(self.rows[reservation_id], **columns)

    def let_senders_die(self, reservation_id: UUID, times: int) -> None:
        """Let a reservation have been claimed so many times by senders that died with it."""
        row = self.rows[reservation_id]
        first = row.claim_no + 1
        for claim_no in range(first, first + times):
            self.tables.attempts.append(attempt_row(row, self.tables.now, claim_no=claim_no, outcome=_CRASHED))
        self.change(reservation_id, claim_no=row.claim_no + times)

    # --- the port -----------------------------------------------------------------------------------------------

    def claim(self, run_id: UUID, lane: int, after: Cursor | None, limit: int, without: Without | None = None) -> Page:
        self._check("claim")
        key = None if after is None else (-after.priority, after.due_at, after.reservation_id)
        ahead = [row for row in self.tables.pending() if key is None or _order(row) > key]
        died = self._died()
        skipped = [] if without is None else [row for row in ahead if self._is_skipped(row, run_id, without)]
        fit = [row for row in ahead if _deaths(row, died) < ALONE_AFTER and row not in skipped]
        last = fit[limit - 1] if len(fit) >= limit else None
        cursor = Cursor(last.priority, last.due_at, last.id) if last else None
        return Page(
            self._take(fit[:limit], run_id, lane, strict=self.strict), cursor, has_isolated=bool(ahead) and not fit
        )

    def _is_skipped(self, row: ReservationRow, run_id: UUID, without: Without) -> bool:
        is_of_group = row.tag in without.tags or (not row.tag and row.template in without.templates)
        is_old = row.retry_at is None or row.retry_at < self._in(-without.returned_within)
        return is_of_group or (row.run_id == run_id and not is_old)

    def claim_isolated(self, run_id: UUID, lane: int) -> Page:
        self._check("claim")
        died = self._died()
        suspects = [row for row in self.tables.pending() if _deaths(row, died) >= ALONE_AFTER]
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
        return [_as_mail(row, one.index) for one in claimed if (row := self._held(one.claim)) is not None]

    def settle(self, run_id: UUID, lane: int, settlements: Sequence[Settlement]) -> set[Claim]:
        self._check("settle")
        written = [s for s in settlements if self._settle(s, run_id, lane)]
        self._count(run_id, lane, [s.tally for s in written])
        return {s.claim for s in written} | {s.claim for s in settlements if self._was_settled(s)}

    def commit_intent(self, run_id: UUID, claims: Sequence[Claim]) -> set[Claim]:
        self._check("commit_intent")
        run = self.tables.runs.get(run_id)
        if run is not None and run.stop is not None:
            return set()
        rows = [row for claim in claims if (row := self._held(claim)) is not None and self._has_lease(row)]
        for row in rows:
            self.change(row.id, wire_at=self.tables.now)
        return {_claim_of(row) for row in rows}

    def release_orphans(self, run_id: UUID, lane: int, held: Collection[Claim]) -> int:
        self._check("release_orphans")
        orphans = [row for row in self._claimed_by(run_id, lane) if _claim_of(row) not in held]
        for row in orphans:
            self._happen(row, Event.RELEASED, wire_at=None)
        return len(orphans)

    def renew(self, run_id: UUID, lane: int) -> None:
        self._check("renew")
        for row in self._claimed_by(run_id, lane):
            if self._has_lease(row):
                self.change(row.id, lease_until=self._in(self.lease))

    def expire(self, limit: int) -> int:
        self._check("expire")
        late = [r for r in self.rows.values() if r.status in sources(Event.EXPIRE) and self._is_too_late(r)][:limit]
        for row in late:
            reason = EXPIRED if self._is_expired(row) else late_reason(self.max_lateness)
            self._happen(row, Event.EXPIRE, reason)
        return len(late)

    def resolve_doubts(self, run_id: UUID, on_doubt: OnDoubt, limit: int) -> DoubtsResolved:
        self._check("resolve_doubts")
        own = {row.id for row in self._claimed_by(run_id, 0)}
        others = [row for row in self.tables.in_state(Status.SENDING) if row.id not in own]
        ended = [row for row in others if not self._has_lease(row)][:limit]
        events = {row.id: self._end_lease(row, run_id, on_doubt) for row in ended}
        return DoubtsResolved.of(events, lambda count: self._reserve_indexes(run_id, count))

    def has_urgent(self, priority: int) -> bool:
        self._check("has_urgent")
        return any(row.priority >= priority and row.claim_no == 0 for row in self.tables.pending())

    def remaining(self) -> int:
        self._check("remaining")
        waits = self.tables.held_back()
        return len(self.tables.pending()) + len(waits) + len(self.tables.in_state(Status.SENDING))

    # --- its parts ----------------------------------------------------------------------------------------------

    def _check(self, method: str) -> None:
        if method in self.failing:
            raise self.failing[method]

    def _in(self, seconds: float) -> datetime:
        return self.tables.now + timedelta(seconds=seconds)

    def _held(self, claim: Claim) -> ReservationRow | None:
        row = self.rows.get(claim.reservation_id)
        return row if row is not None and row.status is Status.SENDING and row.claim_no == claim.claim_no else None

    def _claimed_by(self, run_id: UUID, lane: int) -> list[ReservationRow]:
        return [row for row in self.tables.in_state(Status.SENDING) if (row.run_id, row.lane) == (run_id, lane)]

    def _has_lease(self, row: ReservationRow) -> bool:
        return row.lease_until is not None and row.lease_until > self.tables.now

    def _is_expired(self, row: ReservationRow) -> bool:
        return row.expires_at is not None and row.expires_at <= self.tables.now

    def _is_too_late(self, row: ReservationRow) -> bool:
        since = row.scheduled_at if row.waits_for is not None and not row.attempts else row.due_at
        late = bool(self.max_lateness) and since <= self._in(-self.max_lateness)
        return late or self._is_expired(row)

    def _happen(self, row: ReservationRow, event: Event, error: str | None = None, **columns: Any) -> None:
        self.rows[row.id] = replace(after_event(row, event, self.tables.now, error), **columns)

    def _died(self) -> set[tuple[UUID, int]]:
        """Return the claims whose sender may have died."""
        return {(a.reservation_id, a.claim_no) for a in self.tables.attempts if a.outcome in _DIED}

    def _reserve_indexes(self, run_id: UUID, count: int) -> int:
        first = self.indexes.get(run_id, 0) + 1
        self.indexes[run_id] = first + count - 1
        return first

    def _take(self, due: Sequence[ReservationRow], run_id: UUID, lane: int, *, strict: bool) -> list[Claimed]:
        self.pages.append(len(due))
        for row in due:
            self._happen(
                row,
                Event.CLAIM,
                run_id=run_id,
                lane=lane,
                item_index=None,
                claim_no=row.claim_no + 1,
                lease_until=self._in(self.lease),
                wire_at=None if strict else self.tables.now,
                message_id=row.message_id or f"<{row.id}@test.invalid>",
            )
        first = self._reserve_indexes(run_id, len(due))
        return [self._claimed(self.rows[row.id], index) for index, row in enumerate(due, first)]

    def _claimed(self, row: ReservationRow, index: int) -> Claimed:
        size = sum(len((body or "").encode()) for body in (row.body_text, row.body_html))
        return Claimed(_claim_of(row), index, size, _as_mail(row, index) if size <= self.inline else None)

    def _settle(self, s: Settlement, run_id: UUID, lane: int) -> bool:
        row = self.rows.get(s.claim.reservation_id)
        if row is None or row.claim_no != s.claim.claim_no or row.status not in TABLE[s.event]:
            return False
        retry_at = row.retry_at if s.retry_in is None else self._in(s.retry_in)
        if s.waits_for is not None and s.retry_in is None:
            retry_at = NEVER
        error = "; ".join(s.errors) or None
        tried = {"reply_code": None, "reply_text": None, "verdicts": None, "last_error": error} if s.attempted else {}
        if s.reply is not None and s.attempted:
            tried |= {"reply_code": s.reply.code, "reply_text": s.reply.text}
        if s.verdicts is not None:
            tried["verdicts"] = stored_verdicts(s.verdicts)
        self._happen(
            row,
            s.event,
            error,
            retry_at=retry_at,
            due_at=retry_at or row.scheduled_at,
            waits_for=s.waits_for,
            relay=s.relay or row.relay,
            item_index=s.index,
            sent_at=self.tables.now if s.status is Status.SENT else None,
            wire_at=row.wire_at if s.status is Status.IN_DOUBT else None,
            **tried,
        )
        self._record(s, row, run_id, lane)
        return True

    def _record(self, s: Settlement, row: ReservationRow, run_id: UUID, lane: int) -> None:
        if s.event is Event.ACCEPTED:
            doubt = (row.id, s.claim.claim_no, Tally.IN_DOUBT.value)
            kept = [a for a in self.tables.attempts if (a.reservation_id, a.claim_no, a.outcome) != doubt]
            self.tables.attempts[:] = kept
        elif s.attempted:
            attempt = attempt_row(
                row,
                self.tables.now,
                claim_no=s.claim.claim_no,
                run_id=run_id,
                lane=lane,
                relay=s.relay,
                outcome=s.tally.value,
                reply_code=s.reply.code if s.reply else None,
                enhanced_code=s.reply.enhanced if s.reply else None,
                reply_text=_told(s),
                verdicts=stored_verdicts(s.verdicts),
            )
            self.tables.attempts.append(attempt)

    def _count(self, run_id: UUID, lane: int, tallies: Sequence[Tally]) -> None:
        if (run_id, lane) in self.tables.lanes:
            added = Counter(tally.value for tally in tallies if tally is not Tally.RELEASED)
            self.tables.settled[run_id, lane] = self.tables.settled.get((run_id, lane), Counts()) + Counts(**added)

    def _was_settled(self, s: Settlement) -> bool:
        """Whether the same was written before, but the caller got no reply."""
        if not s.attempted:
            return False
        row = self.rows.get(s.claim.reservation_id)
        if row is not None and row.status is Status.SENT and s.tally is Tally.SENT:
            return (row.claim_no, row.reply_text) == (s.claim.claim_no, _told(s))
        wanted = (s.claim.reservation_id, s.claim.claim_no, s.tally.value, _told(s))
        return any((a.reservation_id, a.claim_no, a.outcome, a.reply_text) == wanted for a in self.tables.attempts)

    def _end_lease(self, row: ReservationRow, run_id: UUID, on_doubt: OnDoubt) -> Event:
        on_wire = row.wire_at is not None
        event = lease_ended(
            on_wire=on_wire,
            deaths=_deaths(row, self._died() | {(row.id, row.claim_no)}),
            attempts=row.attempts + 1,
            retry=self.retry,
            on_doubt=on_doubt,
        )
        self._happen(row, event, lease_error(event, self.retry))
        said = NO_VERDICT if on_wire else "its sender died before anything of it was on the wire"
        attempt = attempt_row(
            row,
            self.tables.now,
            claim_no=row.claim_no,
            run_id=row.run_id,
            lane=row.lane,
            outcome=Tally.IN_DOUBT.value if on_wire else _CRASHED,
            reply_text=f"{said}; resolved by run {run_id}",
        )
        self.tables.attempts.append(attempt)
        return event


def _claim_of(row: ReservationRow) -> Claim:
    return Claim(row.id, row.claim_no)


def _order(row: ReservationRow) -> tuple[int, datetime, UUID]:
    """Return its place in the order in which reservations are claimed."""
    return -row.priority, row.due_at, row.id


def _deaths(row: ReservationRow, died: Collection[tuple[UUID, int]]) -> int:
    """Return how many of its last claims in a row are in ``died``."""
    count = 0
    while (row.id, row.claim_no - count) in died:
        count += 1
    return count


def _as_mail(row: ReservationRow, index: int) -> ClaimedMail:
    return replace(row.as_claimed(index, accepted_in(row.verdicts)), tag=row.tag, priority=row.priority)


def _told(s: Settlement) -> str:
    return s.reply.text if s.reply else "; ".join(s.errors)
