"""What operators do to reservations: the adapter of the port ``Interventions``.

Each verb is a conditional statement: against a run in progress each mail is changed whole, or is left as it is. What
may concern a whole table is done in portions, each in a transaction of its own: so no lane waits long for a row, and
no step of a run reads through a great many dead entries of an index.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.change import Changed, ChangeResult, Purged
from mailbatch.domain.reservation import FINISHED, REQUEUABLE, Status
from mailbatch.domain.rows import ReservationPlace
from mailbatch.domain.selection import Selection
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.reservations import SqlReservations
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations, run_errors
from mailbatch.infrastructure.db.types import now, text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Connection, Engine


_r = mail_reservations.c
_CHUNK = 500
"""Ids of one statement: SQLite and PostgreSQL bound the number of parameters."""
_PORTION = 200
"""Rows of one portion: few enough that a step of a run that waits for it takes no longer than a tenth of a second."""
_MANY = 100
"""Ids that are a portion of more, or as many."""
_REST = 4.0
"""How many times as long as a portion took a run has the database to itself: so it keeps four fifths of its rate."""
_LONGEST_REST = 1.0
"""Seconds."""
_SENDING = sa.select(sa.exists().where(_r.status == sa.literal_column("'sending'"), _r.lease_until >= now()))
_OLD: list[tuple[Status, Any]] = [(s, moment) for moment in (_r.finished_at, _r.created_at) for s in sorted(FINISHED)]
"""What is purged, each a range of one index: each state by the time of its end, then what has no such time."""
_OVERDUE = sa.and_(_r.expires_at.is_not(None), _r.expires_at <= now())
_CANCEL: dict[str, Any] = {"status": Status.CANCELLED.value, "finished_at": now()}
_REQUEUE: dict[str, Any] = {
    "status": Status.PENDING.value,
    # Due now, so that no limit of lateness takes it for old; but what was cancelled before its time keeps its time.
    "retry_at": sa.case((_r.scheduled_at > now(), None), else_=now()),
    "attempts": 0,
    "finished_at": None,
    "wire_at": None,
}
_RESOLVE: dict[str, Any] = {
    "status": Status.SENT.value,
    # The nearest that is known of when it went out.
    "sent_at": sa.func.coalesce(_r.wire_at, now()),
    "finished_at": now(),
}


@dataclass(frozen=True, slots=True)
class SqlInterventions:
    """The port ``Interventions`` on PostgreSQL and SQLite."""

    engine: Engine

    def cancel(self, ids: Sequence[UUID]) -> list[ChangeResult]:
        """Cancel what is still pending; see the port."""
        return self._change(ids, _in([Status.PENDING]), _CANCEL)

    def cancel_tagged(self, tag: str) -> Changed:
        """Cancel what is still pending under a tag; see the port."""
        cancelled = Changed.of(
            self._change_all(Selection(tag=tag, status=Status.PENDING), _in([Status.PENDING]), _CANCEL)
        )
        return Changed(cancelled.changed, self._others(_r.tag == tag, Status.CANCELLED))

    def requeue(self, ids: Sequence[UUID], states: Collection[Status] = REQUEUABLE) -> list[ChangeResult]:
        """Send back to pending; see the port. Verdicts stay: who accepted it before does not get it again."""
        return self._change(ids, sa.and_(_in(states), sa.not_(_OVERDUE)), _REQUEUE)

    def requeue_all(self, status: Status) -> Changed:
        """Send back all in one state; see the port."""
        if status not in REQUEUABLE:
            raise ValueError(f"{status.value} reservations cannot be requeued")
        fit = sa.and_(_in([status]), sa.not_(_OVERDUE))
        return Changed.of(self._change_all(Selection(status=status), fit, _REQUEUE))

    def requeue_run(self, run_id: UUID) -> Changed:
        """Send back what a run failed; see the port."""
        fit = sa.and_(_in([Status.FAILED]), sa.not_(_OVERDUE))
        requeued = Changed.of(a for ids in self._of_errors(run_id) for a in self._change(ids, fit, _REQUEUE))
        return Changed(requeued.changed, self._others(_of_run(run_id), Status.PENDING))

    def count_failed(self, run_id: UUID, cap: int) -> int:
        """Count what a run failed; see the port."""
        failed = sa.select(_r.id).where(_of_run(run_id), _in([Status.FAILED])).limit(cap + 1).subquery()
        with reading(self.engine) as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(failed)).scalar_one())

    def resolve(self, ids: Sequence[UUID]) -> list[ChangeResult]:
        """Take reservations in doubt for sent; see the port."""
        return self._change(ids, _in([Status.IN_DOUBT]), _RESOLVE)

    def delete(self, ids: Sequence[UUID], states: Collection[Status] = FINISHED) -> list[ChangeResult]:
        """Delete what is finished; see the port."""
        answers: dict[UUID, ChangeResult] = {}
        meant = _in(FINISHED.intersection(states))
        statement = sa.delete(mail_reservations).where(meant).returning(_r.id, _r.status)
        with writing(self.engine) as connection:
            for chunk in _chunks(ids):
                in_order = sa.select(_r.id).where(_r.id.in_(chunk), meant).order_by(_r.id).with_for_update()
                gone = connection.execute(statement.where(_r.id.in_(in_order)))
                answers |= {row.id: ChangeResult(row.id, changed=True, status=Status(row.status)) for row in gone}
                rest = set(chunk) - set(answers)
                left = connection.execute(sa.select(_r.id, _r.status).where(_r.id.in_(rest))) if rest else ()
                answers |= {row.id: ChangeResult(row.id, changed=False, status=Status(row.status)) for row in left}
        return [answers.get(i) or ChangeResult(i, changed=False, status=None) for i in ids]

    def purge(self, older_than: float, limit: int, after: Purged | None = None) -> Purged:
        """Delete a page of what is finished and old; see the port.

        Each page begins where the last one ended: the entries of an index that are dead by then are not read again.
        """
        number, *last = after.place if after is not None and after.place is not None else (0,)
        status, moment = _OLD[number]
        old = [_r.status == sa.literal_column(f"'{status.value}'"), moment < now(-older_than)]
        # What is finished has a time, unless it came so by a plain INSERT. The partial index is chosen by this.
        old.append(_r.finished_at.is_(None) if moment is _r.created_at else moment.is_not(None))
        if last:
            key = (sa.literal(value, column.type) for value, column in zip(last, (moment, _r.id), strict=True))
            old.append(sa.tuple_(moment, _r.id) > sa.tuple_(*key))
        # Whoever requeues some of them has them first.
        page = sa.select(_r.id).where(*old).order_by(moment, _r.id).limit(limit).with_for_update(skip_locked=True)
        deletion = sa.delete(mail_reservations).where(_r.id.in_(page), _in(FINISHED)).returning(moment, _r.id)
        with _giving_way(self.engine) as connection:
            gone = connection.execute(deletion).all()
        if len(gone) == limit:
            # As text, for so both databases order ids.
            return Purged(limit, (number, *max(map(tuple, gone), key=lambda row: (row[0], str(row[1])))))
        return Purged(len(gone), (number + 1,) if number + 1 < len(_OLD) else None)

    def purge_runs(self, older_than: float, limit: int = _PORTION) -> int:
        """Delete old reports; their errors and lanes go with them. See the port."""
        runs, deleted, last = batch_runs.c, 0, None
        while True:
            old = sa.select(runs.run_id).where(runs.finished_at < now(-older_than)).order_by(runs.run_id).limit(limit)
            if last is not None:
                old = old.where(runs.run_id > last)
            with _giving_way(self.engine) as connection:
                ids = connection.execute(old).scalars().all()
                connection.execute(sa.delete(batch_runs).where(runs.run_id.in_(ids)))
            deleted += len(ids)
            if len(ids) < limit:
                return deleted
            last = ids[-1]

    def _change(
        self, ids: Sequence[UUID], condition: sa.ColumnElement[bool], values: dict[str, Any]
    ) -> list[ChangeResult]:
        answers: dict[UUID, ChangeResult] = {}
        with writing(self.engine) if len(ids) < _MANY else _giving_way(self.engine) as connection:
            for chunk in _chunks(ids):
                answers |= change(connection, chunk, condition, values)
        return [answers[reservation_id] for reservation_id in ids]

    def _change_all(
        self, which: Selection, condition: sa.ColumnElement[bool], values: dict[str, Any]
    ) -> Iterator[ChangeResult]:
        """Change all of ``which`` that is there now; what comes meanwhile is left."""
        after: ReservationPlace | None = None
        stored = SqlReservations(self.engine)
        while rows := stored.select(which, ReservationPlace, after, _PORTION):
            yield from self._change([row.id for row in rows], condition, values)
            after = rows[-1]

    def _of_errors(self, run_id: UUID) -> Iterator[Sequence[UUID]]:
        """The reservations of a run's errors, a portion at a time; one may come more than once."""
        c = run_errors.c
        errors = sa.select(c.item_index, c.reservation_id).where(c.run_id == run_id)
        page = errors.order_by(c.item_index).limit(_PORTION)
        last = -1
        while True:
            with reading(self.engine) as connection:
                rows = connection.execute(page.where(c.item_index > last)).all()
            if not rows:
                return
            yield list(dict.fromkeys(row.reservation_id for row in rows if row.reservation_id is not None))
            last = rows[-1].item_index

    def _others(self, whole: sa.ColumnElement[bool], aim: Status) -> dict[Status, int]:
        """How many of ``whole`` are in each other state than the one aimed at."""
        left = sa.select(_r.status, sa.func.count()).where(whole, _r.status != aim.value).group_by(_r.status)
        with reading(self.engine) as connection:
            return {Status(status): n for status, n in connection.execute(left)}


@contextmanager
def _giving_way(engine: Engine) -> Iterator[Connection]:
    """A transaction that changes many rows; after it a run that is sending has the database to itself for a while."""
    began = time.monotonic()
    with writing(engine) as connection:
        yield connection
        sending = connection.scalar(_SENDING)
    if sending:
        time.sleep(min(_LONGEST_REST, _REST * (time.monotonic() - began)))


def cancel(connection: Connection, reservation_id: UUID) -> ChangeResult:
    """Cancel one reservation, if it is still pending, in the transaction of ``connection``."""
    return change(connection, [reservation_id], _in([Status.PENDING]), _CANCEL)[reservation_id]


def change(
    connection: Connection, ids: Sequence[UUID], condition: sa.ColumnElement[bool], values: dict[str, Any]
) -> dict[UUID, ChangeResult]:
    """Change those of ``ids`` that meet ``condition``, and tell of the others in which state they are."""
    statement = _update(sa.and_(_r.id.in_(ids), condition)).values(values).returning(_r.id)
    changed = set(connection.execute(statement).scalars())
    rest = sa.select(_r.id, _r.status, _OVERDUE).where(_r.id.in_(set(ids) - changed))
    found = {row[0]: row for row in connection.execute(rest)} if len(changed) < len(set(ids)) else {}
    now_in = Status(values["status"])
    return {
        i: ChangeResult(i, changed=True, status=now_in) if i in changed else _left_alone(i, found.get(i), now_in)
        for i in ids
    }


def _update(condition: sa.ColumnElement[bool]) -> sa.Update:
    """Change what meets ``condition``, locked by id as late verdicts do: so the two never wait for each other."""
    in_order = sa.select(_r.id).where(condition).order_by(_r.id).with_for_update()
    return sa.update(mail_reservations).where(_r.id.in_(in_order))


def _left_alone(reservation_id: UUID, row: Any, aim: Status) -> ChangeResult:
    if row is None:
        return ChangeResult(reservation_id, changed=False, status=None)
    status = Status(text_of(row[1]))
    overdue = aim is Status.PENDING and status in REQUEUABLE and bool(row[2])
    return ChangeResult(reservation_id, changed=False, status=status, overdue=overdue)


def _of_run(run_id: UUID) -> sa.ColumnElement[bool]:
    return _r.id.in_(sa.select(run_errors.c.reservation_id).where(run_errors.c.run_id == run_id))


def _in(statuses: Iterable[Status]) -> sa.ColumnElement[bool]:
    return _r.status.in_(sorted(status.value for status in statuses))


def _chunks(ids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
