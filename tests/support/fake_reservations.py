"""The ports of the reservations in memory, over the rows of ``FakeTables``: to store, read, change and delete them.

The contract tests hold them to what the databases do.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from support import fake_files
from support.fake_idempotency import FakeIdempotencyKeys
from support.fake_tables import FakeTables, after_event
from support.rows import reservation_row

from mailbatch.domain.act import EVENTS, Act
from mailbatch.domain.change import ChangeResult, Purged
from mailbatch.domain.errors import KeyConflict, StateConflict, StoreError
from mailbatch.domain.lifecycle import REQUEUABLE, TABLE, Event, blocked_by_expiry, sources
from mailbatch.domain.reservation import FINISHED, MAIL_FIELDS, Status, Stored
from mailbatch.domain.rows import ReservationPlace, ReservationSummary, Row, as_dict
from mailbatch.domain.selection import Counted, Found, Selection, Tagged, moment_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.domain.errors import MailbatchError
    from mailbatch.domain.reservation import Reservation
    from mailbatch.domain.rows import AttemptRow, ReservationRow
    from mailbatch.domain.selection import Group

R = TypeVar("R", bound=Row)


@dataclass
class FakeReservations:
    """The port ``Reservations``. ``refused``: idempotency keys whose reservations the database cannot store.

    ``committed``: how many reservations each transaction stored.
    """

    tables: FakeTables = field(default_factory=FakeTables)
    refused: set[str] = field(default_factory=set)
    committed: list[int] = field(default_factory=list)

    @contextmanager
    def intake(self) -> Iterator[FakeIntake]:
        t = self.tables
        before = dict(t.reservations), dict(t.files), dict(t.requests)
        try:
            yield FakeIntake(t, refused=self.refused)
        except BaseException:
            t.reservations, t.files, t.requests = before
            raise
        self.committed.append(len(t.reservations) - len(before[0]))

    def get(self, reservation_id: UUID) -> ReservationRow | None:
        row = self.tables.reservations.get(reservation_id)
        return row.with_message_id_of(row.message) if row and isinstance(row.message, bytes) else row

    def some(self, ids: Collection[UUID], kind: type[R]) -> Mapping[UUID, R]:
        return {own: _as(kind, self.tables.reservations[own]) for own in ids if own in self.tables.reservations}

    def attempts(self, reservation_id: UUID) -> list[AttemptRow]:
        mine = [a for a in self.tables.attempts if a.reservation_id == reservation_id]
        return sorted(mine, key=lambda a: a.claim_no)

    def select(self, which: Selection, kind: type[R], after: ReservationPlace | None, limit: int) -> list[R]:
        return self.search(which, kind, after, limit).rows

    def search(
        self, which: Selection, kind: type[R], after: ReservationPlace | None, limit: int, within: float | None = None
    ) -> Found[R]:
        found = self._meant(which)
        if after is not None:
            found = [r for r in found if _key(r, which) < (moment_of(after, which), after.id)]
        return Found([_as(kind, row) for row in found[:limit]], None)

    def count(self, which: Selection, cap: int) -> int:
        return min(len(self._meant(which)), cap + 1)

    def estimate(self, which: Selection, cap: int, within: float | None = None) -> Counted:
        many = self.count(which, cap)
        return Counted(many, exact=many <= cap)

    def count_by_status(self, group: Group) -> Mapping[Status, int]:
        if isinstance(group, Tagged):
            return Counter(row.status for row in self._meant(Selection(tag=group.tag)))
        named = {error.reservation_id for error in self.tables.errors.get(group.run_id, [])}
        return Counter(row.status for own, row in self.tables.reservations.items() if own in named)

    def _meant(self, which: Selection) -> list[ReservationRow]:
        found = [row for row in self.tables.reservations.values() if _fits(row, which)]
        return sorted(found, key=lambda row: _key(row, which), reverse=True)


def _as(kind: type[R], row: ReservationRow) -> R:
    has = {"has_attachments": row.attachments is not None, "has_message": row.message is not None}
    found = kind.from_row(as_dict(row) | has)
    if not isinstance(found, ReservationSummary) or row.message is None:
        return found
    return found.with_subject_of(row.message if isinstance(row.message, bytes) else b"".join(row.message.pieces()))


def _key(row: ReservationRow, which: Selection) -> tuple[datetime, UUID]:
    return moment_of(ReservationPlace.of(row), which) or row.created_at, row.id


def _fits(row: ReservationRow, which: Selection) -> bool:
    moment, code = moment_of(ReservationPlace.of(row), which), row.reply_code
    replies = {"none": code is None, f"{(code or 0) // 100}xx": True, str(code): True}
    return (
        (which.status is None or row.status is which.status)
        and (which.tag is None or row.tag == which.tag)
        and (which.to is None or which.to.lower() in row.recipients.lower())
        and (which.run_id is None or row.run_id == which.run_id)
        and (which.reply is None or replies.get(which.reply, False))
        and (which.since is None or (moment is not None and moment >= which.since))
        and (which.until is None or (moment is not None and moment < which.until))
    )


@dataclass
class FakeIntake:
    """The port ``Intake``: what is added stays if the block ends well."""

    tables: FakeTables
    traces: dict[UUID, Mapping[str, str]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def add(self, reservation: Reservation) -> Stored:
        known = self._in_the_way(reservation)
        if known is None:
            row = self._row(reservation)
            self.tables.reservations[row.id] = row
            return Stored(row.id, new=True)
        if known.idempotency_key != reservation.idempotency_key or known.idempotency_key is None:
            raise KeyConflict(f"id: {reservation.id} is taken by another reservation; leave the id out")
        given = self._row(reservation)
        differ = [name for name in _COMPARED if not _same(name, given, known, reservation)]
        if differ:
            raise KeyConflict(
                f"idempotency_key: {reservation.idempotency_key!r} was used before, for reservation {known.id}, which "
                f"differs in {', '.join(differ)}; use another key for another mail"
            )
        return Stored(known.id, new=False)

    def add_many(self, reservations: Sequence[Reservation]) -> list[Stored | MailbatchError]:
        return [self._tried(reservation) for reservation in reservations]

    def remember(self, key: str, owner: str, status: int, body: str) -> None:
        keys = FakeIdempotencyKeys(self.tables)
        if not keys.is_owned(key, owner):
            raise StateConflict("this request took too long, and another with its key has begun; send it again")
        keys.finish(key, owner, status, body)

    def trace(self, ids: Sequence[UUID], headers: Mapping[str, str]) -> None:
        self.traces |= dict.fromkeys(ids, headers)

    def store_file(self, content: bytes, filename: str | None, content_type: str | None) -> str:
        return fake_files.store(self.tables, content, filename, content_type)

    def touch_files(self, ids: Collection[str]) -> dict[str, int]:
        return fake_files.touch(self.tables, ids)

    def _tried(self, reservation: Reservation) -> Stored | MailbatchError:
        if reservation.idempotency_key in self.refused:
            return StoreError("value out of range", transient=False)
        try:
            return self.add(reservation)
        except KeyConflict as error:
            return error

    def _in_the_way(self, reservation: Reservation) -> ReservationRow | None:
        rows, key = self.tables.reservations, reservation.idempotency_key
        by_key = next((row for row in rows.values() if key is not None and row.idempotency_key == key), None)
        return by_key or rows.get(reservation.id)

    def _row(self, reservation: Reservation) -> ReservationRow:
        mail = {name: getattr(reservation.mail, name) for name in MAIL_FIELDS}
        own = ("id", "expires_at", "priority", "idempotency_key", "tag", "message_id")
        given = {name: getattr(reservation, name) for name in own}
        scheduled_at = reservation.scheduled_at or self.tables.now
        return reservation_row(self.tables.now, scheduled_at=scheduled_at, **mail, **given)


_COMPARED = (*MAIL_FIELDS, "scheduled_at", "expires_at", "priority", "tag")


def _same(name: str, row: ReservationRow, known: ReservationRow, reservation: Reservation) -> bool:
    given, stored = getattr(row, name), getattr(known, name)
    if name in {"scheduled_at", "expires_at"}:
        return getattr(reservation, name) is None or bool(given == stored)
    if name in {"context", "headers", "attachments"}:
        given, stored = (None if value is None else json.loads(json.dumps(value)) for value in (given, stored))
    return bool((given or None) == (stored or None))


@dataclass
class FakeInterventions:
    """The port ``Interventions``. ``calls``: how many reservations each call was for, or deleted."""

    tables: FakeTables = field(default_factory=FakeTables)
    portion: int = 200
    calls: list[int] = field(default_factory=list)

    def apply(self, act: Act, ids: Sequence[UUID], states: Collection[Status]) -> list[ChangeResult]:
        self.calls.append(len(ids))
        results = {own: self._apply(EVENTS[act], own, states) for own in ids}
        return [results[own] for own in ids]

    def purge(self, older_than: float, after: Purged | None = None) -> Purged:
        before, rows = self.tables.now - timedelta(seconds=older_than), self.tables.reservations
        old = [own for own, r in rows.items() if r.status in FINISHED and (r.finished_at or r.created_at) < before]
        for own in old[: self.portion]:
            del rows[own]
        self.calls.append(len(old[: self.portion]))
        return Purged(len(old[: self.portion]), (len(self.calls),) if len(old) >= self.portion else None)

    def purge_runs(self, older_than: float) -> int:
        before = self.tables.now - timedelta(seconds=older_than)
        old = [own for own, run in self.tables.runs.items() if run.finished_at and run.finished_at < before]
        for own in old:
            del self.tables.runs[own]
            self.tables.errors.pop(own, None)
        return len(old)

    def _apply(self, event: Event, own: UUID, states: Collection[Status]) -> ChangeResult:
        row = self.tables.reservations.get(own)
        if row is None:
            return ChangeResult(own, changed=False, status=None)
        expired = row.expires_at is not None and row.expires_at <= self.tables.now
        overdue = blocked_by_expiry(event) and expired and row.status in REQUEUABLE
        if overdue or row.status not in sources(event).intersection(states):
            return ChangeResult(own, changed=False, status=row.status, overdue=overdue)
        if TABLE[event][row.status].deletes:
            del self.tables.reservations[own]
            return ChangeResult(own, changed=True, status=row.status)
        changed = self.tables.reservations[own] = self._after(event, row)
        return ChangeResult(own, changed=True, status=changed.status)

    def _after(self, event: Event, row: ReservationRow) -> ReservationRow:
        now = self.tables.now
        after = after_event(row, event, now)
        if event is Event.RESOLVE:
            return replace(after, sent_at=row.wire_at or now)
        if after.status is not Status.PENDING:
            return after
        retry_at = None if row.scheduled_at > now else now
        return replace(after, retry_at=retry_at, due_at=retry_at or row.scheduled_at, wire_at=None)
