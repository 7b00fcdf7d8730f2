"""The adapter of the port ``Interventions``: changes and deletes reservations for operators.

Each act is a conditional statement: while a run is in progress each mail is changed as a whole, or stays as it is.
A call for many rows is one portion of more. Portions are short, so that no lane waits long for a row, and no step of a
run reads through many dead entries of an index.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.act import EVENTS, TO, Act
from mailbatch.domain.change import ChangeResult, Purged
from mailbatch.domain.lifecycle import REQUEUABLE, Event, blocked_by_expiry
from mailbatch.domain.reservation import FINISHED, Status
from mailbatch.infrastructure.db.conditions import SENDING, has_expired, is_in, read_once
from mailbatch.infrastructure.db.engine import writing
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations
from mailbatch.infrastructure.db.transitions import changeable, columns_after
from mailbatch.infrastructure.db.types import now, text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
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
_UNDER_WAY = sa.select(sa.exists().where(SENDING, _r.lease_until >= now()))
_OLD: list[tuple[Status, Any]] = [(s, moment) for moment in (_r.finished_at, _r.created_at) for s in sorted(FINISHED)]
"""What is purged, each a range of one index: each state by the time of its end, then what has no such time."""
_REQUEUE: dict[str, Any] = {
    # Due now, so that MAX_LATENESS does not expire it; but one cancelled before its time keeps its time.
    "retry_at": sa.case((_r.scheduled_at > now(), None), else_=now()),
    "wire_at": None,
}
_BESIDE: dict[Event, dict[str, Any]] = {
    Event.REQUEUE: _REQUEUE,
    Event.RESTORE: _REQUEUE,
    # ``wire_at`` is the best that is known of when it was sent.
    Event.RESOLVE: {"sent_at": sa.func.coalesce(_r.wire_at, now())},
}
"""Columns that an event writes beside those of the table of states.

Verdicts stay: a recipient that accepted a mail does not get it again.
"""


@dataclass(frozen=True, slots=True)
class SqlInterventions:
    """The port ``Interventions`` on PostgreSQL and SQLite."""

    engine: Engine

    def apply(self, act: Act, ids: Sequence[UUID], states: Collection[Status]) -> list[ChangeResult]:
        """Change or delete those in ``states``; see the port."""
        results: dict[UUID, ChangeResult] = {}
        with writing(self.engine) if len(ids) < _MANY else _giving_way(self.engine) as connection:
            for chunk in _chunks(ids):
                results |= apply(connection, act, chunk, states)
        return [results[own] for own in ids]

    def purge(self, older_than: float, limit: int, after: Purged | None = None) -> Purged:
        """Delete a page of what is finished and old; see the port.

        Each page begins where the last one ended: the entries of an index that are dead by then are not read again.
        """
        number, *last = after.place if after is not None and after.place is not None else (0,)
        status, moment = _OLD[number]
        old = [is_in(status), moment < now(-older_than)]
        # What is finished has a time, unless it came so by a plain INSERT. The partial index is chosen by this.
        old.append(_r.finished_at.is_(None) if moment is _r.created_at else moment.is_not(None))
        if last:
            key = (sa.literal(value, column.type) for value, column in zip(last, (moment, _r.id), strict=True))
            old.append(sa.tuple_(moment, _r.id) > sa.tuple_(*key))
        # Rows that an operator is requeueing now are skipped.
        page = sa.select(_r.id).where(*old).order_by(moment, _r.id).limit(limit).with_for_update(skip_locked=True)
        deletion = sa.delete(mail_reservations).where(_r.id.in_(read_once(page)), changeable(Event.DELETE))
        with _giving_way(self.engine) as connection:
            gone = connection.execute(deletion.returning(moment, _r.id)).all()
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


@contextmanager
def _giving_way(engine: Engine) -> Iterator[Connection]:
    """A transaction that changes many rows; after it a run that is sending has the database to itself for a while."""
    began = time.monotonic()
    with writing(engine) as connection:
        yield connection
        sending = connection.scalar(_UNDER_WAY)
    if sending:
        time.sleep(min(_LONGEST_REST, _REST * (time.monotonic() - began)))


def apply(
    connection: Connection, act: Act, ids: Collection[UUID], states: Collection[Status]
) -> dict[UUID, ChangeResult]:
    """Do ``act`` to those of ``ids`` that are in ``states``, in the transaction of ``connection``; see the port."""
    rows = connection.execute(_statement(EVENTS[act], ids, states))
    results = {row.id: ChangeResult(row.id, changed=True, status=TO.get(act) or Status(row.status)) for row in rows}
    if rest := set(ids) - set(results):
        overdue = has_expired(now()).label("overdue")
        found = connection.execute(sa.select(_r.id, _r.status, overdue).where(_r.id.in_(rest)))
        results |= {row.id: _unchanged(act, row) for row in found}
    return {own: results.get(own) or ChangeResult(own, changed=False, status=None) for own in ids}


def _statement(event: Event, ids: Collection[UUID], states: Collection[Status]) -> sa.Update | sa.Delete:
    """Lock the rows by id, as late verdicts do: so the two never wait for each other."""
    fits = sa.select(_r.id).where(_r.id.in_(ids), changeable(event, states))
    in_order = fits.order_by(_r.id).with_for_update()
    if event is Event.DELETE:
        return sa.delete(mail_reservations).where(_r.id.in_(in_order)).returning(_r.id, _r.status)
    update = sa.update(mail_reservations).where(_r.id.in_(in_order))
    return update.values(columns_after(event) | _BESIDE.get(event, {})).returning(_r.id)


def _unchanged(act: Act, row: Any) -> ChangeResult:
    status = Status(text_of(row.status))
    overdue = blocked_by_expiry(EVENTS[act]) and status in REQUEUABLE and bool(row.overdue)
    return ChangeResult(row.id, changed=False, status=status, overdue=overdue)


def _chunks(ids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
