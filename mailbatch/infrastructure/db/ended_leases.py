"""Judge claims whose sender died: what may have gone out, what did not, and what kills each sender that takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.claimed import DoubtsResolved
from mailbatch.domain.lifecycle import CRASHED, NO_VERDICT, OnDoubt, quarantine_reason
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import ALONE_AFTER
from mailbatch.infrastructure.db.conditions import SENDING
from mailbatch.infrastructure.db.settling import record_attempts
from mailbatch.infrastructure.db.tables import mail_attempts, mail_reservations
from mailbatch.infrastructure.db.types import now, raised

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlalchemy.engine import Connection

    from mailbatch.domain.retry import RetryPolicy

_r = mail_reservations.c
_a = mail_attempts.c
ASKING = 0
"""The lane of a run that judges others."""
RESOLVED_BY = "; resolved by run "
"""Between what is said of a try without a verdict and the id of the run that counts it."""
_DIED: sa.ColumnElement[bool] = sa.literal_column(f"mail_attempts.outcome IN ('in_doubt', '{CRASHED}')")


def ended_badly(claims: int) -> sa.ScalarSelect[int]:
    """How many of a reservation's last ``claims`` claims ended without a word from their sender.

    The claim in progress has no row yet, so while one lasts it is one of them that did not.
    """
    last = sa.and_(_a.reservation_id == _r.id, _a.claim_no > _r.claim_no - claims, _DIED)
    return sa.select(sa.func.count()).where(last).correlate(mail_reservations).scalar_subquery()


def must_be_isolated() -> sa.ColumnElement[bool]:
    """Whether a pending reservation is to be sent with nothing beside it. Of most rows no attempt is looked up."""
    return sa.and_(_r.claim_no >= ALONE_AFTER, ended_badly(ALONE_AFTER) >= ALONE_AFTER)


def resolve(
    connection: Connection,
    run_id: UUID,
    on_doubt: OnDoubt,
    limit: int,
    retry: RetryPolicy,
    reserve_indexes: Callable[[int], int],
) -> DoubtsResolved:
    """Take back up to ``limit`` reservations whose lease has ended; see the port ``Backlog``."""
    # Who asks is alive: the database's clock may have been set forward, or its lane have slept.
    anothers = sa.or_(_r.run_id.is_distinct_from(run_id), _r.lane.is_distinct_from(ASKING))
    ended = (
        sa.select(_r.id)
        .where(SENDING, _r.lease_until <= now(), anothers)
        .order_by(_r.lease_until)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    untouched = _r.wire_at.is_(None)
    was_alone = ended_badly(ALONE_AFTER + 1) >= ALONE_AFTER
    poison = sa.and_(untouched, ended_badly(retry.deaths) >= retry.deaths - 1)
    used_up = raised(_r.attempts, 1) >= retry.max_attempts
    held = sa.true() if on_doubt is OnDoubt.HOLD else used_up
    aside = quarantine_reason(retry.deaths)
    update = (
        sa.update(mail_reservations)
        .where(_r.id.in_(ended))
        .values(
            status=sa.case((poison, "failed"), (untouched, "pending"), (held, "in_doubt"), else_="pending"),
            attempts=sa.case((sa.and_(untouched, sa.not_(was_alone)), _r.attempts), else_=raised(_r.attempts, 1)),
            last_error=sa.case((poison, aside), (untouched, _r.last_error), else_=NO_VERDICT),
            finished_at=sa.case((poison, now()), else_=None),
            lease_until=None,
        )
        .returning(_r.id, _r.claim_no, _r.status, _r.wire_at, _r.run_id, _r.lane)
    )
    rows = connection.execute(update).all()
    doubtful = [row for row in rows if row.wire_at is not None]
    poisonous = [row for row in rows if row.status == Status.FAILED]
    named = [*doubtful, *poisonous]
    first = reserve_indexes(len(named)) if named else 1
    record_attempts(connection, [_attempt(row, run_id) for row in rows])
    indexed = [(first + i, row.id) for i, row in enumerate(named)]
    kept = sum(row.status == Status.IN_DOUBT for row in doubtful)
    return DoubtsResolved(
        released=len(rows) - len(named),
        resent=len(doubtful) - kept,
        held=kept,
        doubtful=indexed[: len(doubtful)],
        quarantined=indexed[len(doubtful) :],
    )


def _attempt(row: Any, run_id: UUID) -> dict[str, Any]:
    said = NO_VERDICT if row.wire_at is not None else "its sender died before anything of it was on the wire"
    return {
        "reservation_id": row.id,
        "claim_no": row.claim_no,
        "run_id": row.run_id,
        "lane": row.lane,
        "outcome": "in_doubt" if row.wire_at is not None else CRASHED,
        "reply_text": f"{said}{RESOLVED_BY}{run_id}",
    }
