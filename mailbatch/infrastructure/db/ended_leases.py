"""Resolve claims whose lease has ended: read them, ask the domain what happened to each, and write that."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.claimed import DoubtsResolved
from mailbatch.domain.lifecycle import NO_VERDICT, Event, lease_ended, lease_error
from mailbatch.domain.retry import ALONE_AFTER
from mailbatch.domain.settlement import Tally
from mailbatch.infrastructure.db.conditions import SENDING
from mailbatch.infrastructure.db.settling import record_attempts
from mailbatch.infrastructure.db.tables import mail_attempts, mail_reservations
from mailbatch.infrastructure.db.transitions import columns_after
from mailbatch.infrastructure.db.types import now, raised

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Connection

    from mailbatch.domain.lifecycle import OnDoubt
    from mailbatch.domain.retry import RetryPolicy

_r = mail_reservations.c
_a = mail_attempts.c
RESOLVING_LANE = 0
"""The lane of a run that resolves the ended leases of all others."""
RESOLVED_BY = "; resolved by run "
"""Stands in ``reply_text`` before the id of the run in whose report the attempt is counted."""
_CRASHED = Event.CRASHED.value
_DIED: sa.ColumnElement[bool] = sa.literal_column(f"mail_attempts.outcome IN ('{Tally.IN_DOUBT.value}', '{_CRASHED}')")


def must_be_isolated() -> sa.ColumnElement[bool]:
    """Return the condition that a pending reservation is claimed alone, because its last senders died.

    For most rows no attempt is looked up.
    """
    last = sa.and_(_a.reservation_id == _r.id, _a.claim_no > _r.claim_no - ALONE_AFTER, _DIED)
    died = sa.select(sa.func.count()).where(last).correlate(mail_reservations).scalar_subquery()
    return sa.and_(_r.claim_no >= ALONE_AFTER, died >= ALONE_AFTER)


def resolve(
    connection: Connection,
    run_id: UUID,
    on_doubt: OnDoubt,
    limit: int,
    retry: RetryPolicy,
    reserve_indexes: Callable[[int], int],
) -> DoubtsResolved:
    """Take back up to ``limit`` reservations whose lease has ended; see the port ``Backlog``."""
    rows = connection.execute(_ended(run_id, limit)).all()
    deaths = _deaths(connection, [row.id for row in rows if not row.on_wire], retry.deaths)
    events = {
        row.id: lease_ended(
            on_wire=row.on_wire,
            deaths=_in_a_row(row.claim_no, deaths.get(row.id, ())),
            attempts=row.attempts,
            retry=retry,
            on_doubt=on_doubt,
        )
        for row in rows
    }
    _write(connection, events, retry)
    record_attempts(connection, [_attempt(row, run_id) for row in rows])
    return DoubtsResolved.of(events, reserve_indexes)


def _ended(run_id: UUID, limit: int) -> sa.Select[Any]:
    """Lock claims whose lease has ended, except those of the lane that calls.

    That lane is alive: if its own lease has ended, the database's clock was set forward or the lane slept.
    """
    anothers = sa.or_(_r.run_id.is_distinct_from(run_id), _r.lane.is_distinct_from(RESOLVING_LANE))
    return (
        sa.select(
            _r.id,
            _r.claim_no,
            _r.run_id,
            _r.lane,
            _r.wire_at.is_not(None).label("on_wire"),
            raised(_r.attempts, 1).label("attempts"),
        )
        .where(SENDING, _r.lease_until <= now(), anothers)
        .order_by(_r.lease_until)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


def _deaths(connection: Connection, ids: Sequence[UUID], most: int) -> Mapping[UUID, Collection[int]]:
    """Return, for each of ``ids``, which of its last ``most`` claims ended because the sender died."""
    found: defaultdict[UUID, set[int]] = defaultdict(set)
    if ids:
        died = sa.select(_a.reservation_id, _a.claim_no).join(mail_reservations, _a.reservation_id == _r.id)
        for reservation_id, claim_no in connection.execute(
            died.where(_r.id.in_(ids), _a.claim_no > _r.claim_no - most, _DIED)
        ):
            found[reservation_id].add(claim_no)
    return found


def _in_a_row(claim_no: int, died: Collection[int]) -> int:
    """Return how many senders in a row died, up to the one of the claim ``claim_no``, of which there is no row yet."""
    first = claim_no
    while first - 1 in died:
        first -= 1
    return claim_no - first + 1


def _write(connection: Connection, events: Mapping[UUID, Event], retry: RetryPolicy) -> None:
    """Write the events, one statement for each kind."""
    by_event: defaultdict[Event, list[UUID]] = defaultdict(list)
    for reservation_id, event in events.items():
        by_event[event].append(reservation_id)
    for event, ids in by_event.items():
        columns = columns_after(event, lease_error(event, retry))
        connection.execute(sa.update(mail_reservations).where(_r.id.in_(ids)).values(columns))


def _attempt(row: Any, run_id: UUID) -> dict[str, Any]:
    said = NO_VERDICT if row.on_wire else "its sender died before anything of it was on the wire"
    return {
        "reservation_id": row.id,
        "claim_no": row.claim_no,
        "run_id": row.run_id,
        "lane": row.lane,
        "outcome": Tally.IN_DOUBT.value if row.on_wire else _CRASHED,
        "reply_text": f"{said}{RESOLVED_BY}{run_id}",
    }
