"""What operators do to reservations: the adapter of the port ``Interventions``.

Each verb is one conditional statement, so that against a run in progress it wins or loses whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.application.operating_ports import Answer, Changed
from mailbatch.domain.reservation import FINISHED, REQUEUABLE, Status
from mailbatch.infrastructure.db.engine import writing
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations, run_errors
from mailbatch.infrastructure.db.types import now, text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Connection, Engine

_r = mail_reservations.c
_CHUNK = 500
"""Ids of one statement: SQLite and PostgreSQL bound the number of parameters."""
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

    def cancel(self, ids: Sequence[UUID]) -> list[Answer]:
        """Cancel what is still pending; see the port."""
        return self._change(ids, _in([Status.PENDING]), _CANCEL)

    def cancel_tagged(self, tag: str) -> Changed:
        """Cancel what is still pending under a tag; see the port."""
        return self._change_all(_r.tag == tag, _in([Status.PENDING]), _CANCEL)

    def requeue(self, ids: Sequence[UUID], states: Collection[Status] = REQUEUABLE) -> list[Answer]:
        """Send back to pending; see the port. Verdicts stay: who accepted it before does not get it again."""
        return self._change(ids, sa.and_(_in(states), sa.not_(_OVERDUE)), _REQUEUE)

    def requeue_all(self, status: Status) -> Changed:
        """Send back all in one state; see the port."""
        if status not in REQUEUABLE:
            raise ValueError(f"{status.value} reservations cannot be requeued")
        return self._change_all(_in([status]), sa.not_(_OVERDUE), _REQUEUE)

    def requeue_run(self, run_id: UUID) -> Changed:
        """Send back what a run failed; see the port."""
        of_run = _r.id.in_(sa.select(run_errors.c.reservation_id).where(run_errors.c.run_id == run_id))
        return self._change_all(of_run, sa.and_(_in([Status.FAILED]), sa.not_(_OVERDUE)), _REQUEUE)

    def resolve(self, ids: Sequence[UUID]) -> list[Answer]:
        """Take reservations in doubt for sent; see the port."""
        return self._change(ids, _in([Status.IN_DOUBT]), _RESOLVE)

    def delete(self, ids: Sequence[UUID], states: Collection[Status] = FINISHED) -> list[Answer]:
        """Delete what is finished; see the port."""
        answers: dict[UUID, Answer] = {}
        meant = _in(FINISHED.intersection(states))
        statement = sa.delete(mail_reservations).where(meant).returning(_r.id, _r.status)
        with writing(self.engine) as connection:
            for chunk in _chunks(ids):
                in_order = sa.select(_r.id).where(_r.id.in_(chunk), meant).order_by(_r.id).with_for_update()
                gone = connection.execute(statement.where(_r.id.in_(in_order)))
                answers |= {row.id: Answer(row.id, changed=True, status=Status(row.status)) for row in gone}
                rest = set(chunk) - set(answers)
                left = connection.execute(sa.select(_r.id, _r.status).where(_r.id.in_(rest))) if rest else ()
                answers |= {row.id: Answer(row.id, changed=False, status=Status(row.status)) for row in left}
        return [answers.get(i) or Answer(i, changed=False, status=None) for i in ids]

    def purge(self, older_than: float, limit: int) -> int:
        """Delete a page of what is finished and old; see the port."""
        until = now(-older_than)
        # Nothing is finished before it is made: the second condition is what an index can answer.
        old = sa.and_(sa.func.coalesce(_r.finished_at, _r.created_at) < until, _r.created_at < until)
        # Whoever requeues some of them has them first.
        page = sa.select(_r.id).where(_in(FINISHED), old).limit(limit).with_for_update(skip_locked=True)
        with writing(self.engine) as connection:
            done = connection.execute(sa.delete(mail_reservations).where(_r.id.in_(page), _in(FINISHED)))
        return int(done.rowcount)

    def purge_runs(self, older_than: float) -> int:
        """Delete old reports; their errors and lanes go with them."""
        with writing(self.engine) as connection:
            done = connection.execute(sa.delete(batch_runs).where(batch_runs.c.finished_at < now(-older_than)))
        return int(done.rowcount)

    def _change(self, ids: Sequence[UUID], condition: sa.ColumnElement[bool], values: dict[str, Any]) -> list[Answer]:
        answers: dict[UUID, Answer] = {}
        with writing(self.engine) as connection:
            for chunk in _chunks(ids):
                answers |= change(connection, chunk, condition, values)
        return [answers[reservation_id] for reservation_id in ids]

    def _change_all(
        self, whole: sa.ColumnElement[bool], condition: sa.ColumnElement[bool], values: dict[str, Any]
    ) -> Changed:
        """Change what is of ``whole`` and meets ``condition``; count what is of ``whole`` and was left."""
        left = sa.select(_r.status, sa.func.count()).where(whole, _r.status != values["status"]).group_by(_r.status)
        with writing(self.engine) as connection:
            done = connection.execute(_update(sa.and_(whole, condition)).values(values))
            return Changed(int(done.rowcount), {Status(status): n for status, n in connection.execute(left)})


def cancel(connection: Connection, reservation_id: UUID) -> Answer:
    """Cancel one reservation, if it is still pending, in the transaction of ``connection``."""
    return change(connection, [reservation_id], _in([Status.PENDING]), _CANCEL)[reservation_id]


def change(
    connection: Connection, ids: Sequence[UUID], condition: sa.ColumnElement[bool], values: dict[str, Any]
) -> dict[UUID, Answer]:
    """Change those of ``ids`` that meet ``condition``, and tell of the others in which state they are."""
    statement = _update(sa.and_(_r.id.in_(ids), condition)).values(values).returning(_r.id)
    changed = set(connection.execute(statement).scalars())
    rest = sa.select(_r.id, _r.status, _OVERDUE).where(_r.id.in_(set(ids) - changed))
    found = {row[0]: row for row in connection.execute(rest)} if len(changed) < len(set(ids)) else {}
    now_in = Status(values["status"])
    return {
        i: Answer(i, changed=True, status=now_in) if i in changed else _left_alone(i, found.get(i), now_in) for i in ids
    }


def _update(condition: sa.ColumnElement[bool]) -> sa.Update:
    """Change what meets ``condition``, locked by id as late verdicts do: so the two never wait for each other."""
    in_order = sa.select(_r.id).where(condition).order_by(_r.id).with_for_update()
    return sa.update(mail_reservations).where(_r.id.in_(in_order))


def _left_alone(reservation_id: UUID, row: Any, aim: Status) -> Answer:
    if row is None:
        return Answer(reservation_id, changed=False, status=None)
    status = Status(text_of(row[1]))
    overdue = aim is Status.PENDING and status in REQUEUABLE and bool(row[2])
    return Answer(reservation_id, changed=False, status=status, overdue=overdue)


def _in(statuses: Iterable[Status]) -> sa.ColumnElement[bool]:
    return _r.status.in_(sorted(status.value for status in statuses))


def _chunks(ids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
