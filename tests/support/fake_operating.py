"""What operators act on, in memory: reservations with their states, the errors of runs, the audit log."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from mailbatch.domain.act import EVENTS, FROM, TO, Act
from mailbatch.domain.change import ChangeResult, Purged
from mailbatch.domain.errors import KeyConflict, MailbatchError, StoreError
from mailbatch.domain.lifecycle import REQUEUABLE, blocked_by_expiry
from mailbatch.domain.reservation import FINISHED, Mail, Reservation, Status, Stored
from mailbatch.domain.rows import ActionPlace, ActionRow, ReservationPlace
from mailbatch.domain.run import ItemError
from mailbatch.domain.selection import Counted, Group, Selection, Tagged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FakeReservation:
    """One reservation: what acts and filters look at."""

    reservation: Reservation
    created_at: datetime
    status: Status = Status.PENDING
    finished_at: datetime | None = None
    overdue: bool = False


@dataclass
class FakeReservations:
    """The ports ``Reservations``, ``Intake`` and ``Interventions``, as far as acting, importing and purging need them.

    ``moves``: states into which reservations change after they are selected and before they are acted on.
    ``refused``: the idempotency keys that the database refuses.
    """

    rows: dict[UUID, FakeReservation] = field(default_factory=dict)
    errors: dict[UUID, list[UUID]] = field(default_factory=dict)
    moves: dict[UUID, Status] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    old_runs: int = 0
    transactions: list[int] = field(default_factory=list)
    now: datetime = START

    def put(self, status: Status = Status.PENDING, *, tag: str | None = None, **more: Any) -> UUID:
        """Store a reservation in this state."""
        mail = Mail(recipients="ann@example.org", subject="s", body_text="t")
        self.add(reservation := Reservation(id=uuid4(), mail=mail, tag=tag))
        finished_at = self.now if status in FINISHED else None
        self.rows[reservation.id] = replace(
            self.rows[reservation.id], **{"status": status, "finished_at": finished_at, **more}
        )
        return reservation.id

    def states(self) -> Counter[str]:
        """Count the reservations in each state."""
        return Counter(row.status.value for row in self.rows.values())

    # --- storing ---

    @contextmanager
    def intake(self) -> Iterator[FakeReservations]:
        before = dict(self.rows)
        try:
            yield self
        except BaseException:
            self.rows = before
            raise
        self.transactions.append(len(self.rows) - len(before))

    def add(self, reservation: Reservation) -> Stored:
        for row in self.rows.values():
            if reservation.idempotency_key and row.reservation.idempotency_key == reservation.idempotency_key:
                if row.reservation.mail != reservation.mail:
                    raise KeyConflict(f"idempotency_key: {reservation.idempotency_key!r} was used before")
                return Stored(row.reservation.id, new=False)
        self.rows[reservation.id] = FakeReservation(reservation, self.now + timedelta(seconds=len(self.rows)))
        return Stored(reservation.id, new=True)

    def add_many(self, reservations: Sequence[Reservation]) -> list[Stored | MailbatchError]:
        return [self._tried(reservation) for reservation in reservations]

    def _tried(self, reservation: Reservation) -> Stored | MailbatchError:
        if reservation.idempotency_key in self.refused:
            return StoreError("value out of range", transient=False)
        try:
            return self.add(reservation)
        except KeyConflict as error:
            return error

    # --- selecting ---

    def select(self, which: Selection, kind: type[Any], after: ReservationPlace | None, limit: int) -> list[Any]:
        assert kind is ReservationPlace
        found = sorted(self._meant(which), key=lambda row: row.created_at, reverse=True)
        behind = [row for row in found if after is None or row.created_at < after.created_at][:limit]
        places = [
            kind(id=r.reservation.id, status=r.status, created_at=r.created_at, finished_at=r.finished_at)
            for r in behind
        ]
        for place in places:
            if place.id in self.moves:
                self.rows[place.id] = replace(self.rows[place.id], status=self.moves.pop(place.id))
        return places

    def estimate(self, which: Selection, cap: int, within: float | None = None) -> Counted:
        many = len(self._meant(which))
        return Counted(min(many, cap + 1), exact=many <= cap)

    def count_by_status(self, group: Group) -> Mapping[Status, int]:
        if isinstance(group, Tagged):
            return Counter(row.status for row in self._meant(Selection(tag=group.tag)))
        return Counter(self.rows[own].status for own in set(self.errors[group.run_id]) if own in self.rows)

    def _meant(self, which: Selection) -> list[FakeReservation]:
        return [
            row
            for row in self.rows.values()
            if which.status in {None, row.status} and which.tag in {None, row.reservation.tag}
        ]

    # --- changing ---

    def apply(self, act: Act, ids: Sequence[UUID], states: Collection[Status]) -> list[ChangeResult]:
        self.transactions.append(len(ids))
        results = {own: self._apply(act, own, FROM[act].intersection(states)) for own in ids}
        return [results[own] for own in ids]

    def _apply(self, act: Act, own: UUID, states: Collection[Status]) -> ChangeResult:
        row = self.rows.get(own)
        if row is None:
            return ChangeResult(own, changed=False, status=None)
        overdue = row.overdue and blocked_by_expiry(EVENTS[act]) and row.status in REQUEUABLE
        if row.status not in states or overdue:
            return ChangeResult(own, changed=False, status=row.status, overdue=overdue)
        if act is Act.DELETE:
            return ChangeResult(own, changed=True, status=self.rows.pop(own).status)
        self.rows[own] = replace(row, status=TO[act], finished_at=self.now if TO[act] in FINISHED else None)
        return ChangeResult(own, changed=True, status=TO[act])

    def purge(self, older_than: float, limit: int, after: Purged | None = None) -> Purged:
        before = self.now - timedelta(seconds=older_than)
        old = [own for own, row in self.rows.items() if row.finished_at is not None and row.finished_at < before]
        for own in old[:limit]:
            del self.rows[own]
        self.transactions.append(len(old[:limit]))
        return Purged(len(old[:limit]), (len(self.transactions),) if len(old) > limit else None)

    def purge_runs(self, older_than: float) -> int:
        gone, self.old_runs = self.old_runs, 0
        return gone


@dataclass
class FakeReports:
    """The port ``Reports``, as far as acts on the errors of a run need it."""

    reservations: FakeReservations

    def run(self, run_id: UUID) -> object | None:
        return self.reservations.errors.get(run_id)

    def errors(self, run_id: UUID, after: int = 0) -> Iterator[ItemError]:
        for index, own in enumerate(self.reservations.errors[run_id], 1):
            if index > after:
                yield ItemError(index, own, ("no",))


@dataclass
class FakeAuditLog:
    """The port ``AuditLog``. It refuses ``refusals`` writes, or all of them if ``broken``."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    refusals: int = 0
    broken: bool = False

    def record(self, actor: str, action: str, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        self._check()
        self.entries.append(
            {"actor": actor, "action": action, "target": dict(target), "affected": affected, "outcome": outcome}
        )

    def begin(self, actor: str, action: str, target: Mapping[str, Any]) -> UUID:
        self.record(actor, action, target, None, "begun")
        return UUID(int=len(self.entries))

    def end(self, entry_id: UUID, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        self._check()
        self.entries[entry_id.int - 1] |= {"target": dict(target), "affected": affected, "outcome": outcome}

    def list(self, limit: int, before: ActionPlace | None = None) -> Sequence[ActionRow]:
        rows = [
            ActionRow(id=UUID(int=number), at=START + timedelta(seconds=number), **entry)
            for number, entry in enumerate(self.entries, 1)
        ]
        return [row for row in reversed(rows) if before is None or (row.at, row.id) < (before.at, before.id)][:limit]

    def _check(self) -> None:
        if self.broken:
            raise StoreError("disk full", transient=False)
        if self.refusals:
            self.refusals -= 1
            raise StoreError("database is locked", transient=True)
