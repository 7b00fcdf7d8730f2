"""Complete the report of a run that died from the rows that it left.

Its own counts may be as old as its last heartbeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from mailbatch.infrastructure.db.ended_leases import RESOLVED_BY
from mailbatch.infrastructure.db.tables import batch_runs, mail_attempts, mail_reservations, run_errors
from mailbatch.infrastructure.db.types import MOST, raised, upsert

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

_r, _a, _b, _e = mail_reservations.c, mail_attempts.c, batch_runs.c, run_errors.c
_TOLD = ("failed", "deferred", "in_doubt")


def reconcile(connection: Connection, run: Any) -> Any:
    """Complete the counts and the item errors of ``run``, a row of ``batch_runs``; return the row after that.

    A count only rises, because mails that were deleted or corrected since were counted before.
    """
    if not isinstance(run.run_id, UUID):  # SQLite keeps any text, and no run of ours has such an id
        return run
    counted = {row[0]: row[1] for row in connection.execute(_counted(run))}
    counts = {name: max(getattr(run, name), counted.get(name, 0)) for name in ("sent", *_TOLD)}
    missing = connection.execute(_missing(run)).all()
    if missing:
        rows = [
            {"run_id": run.run_id, "item_index": index, "reservation_id": row[0], "errors": [_said(row)]}
            for index, row in enumerate(missing, min(run.claimed, MOST - len(missing)) + 1)
        ]
        connection.execute(upsert(connection, run_errors).on_conflict_do_nothing(), rows)
        _name(connection, run, {row["reservation_id"]: row["item_index"] for row in rows})
    completed = (
        sa.update(batch_runs).where(_b.run_id == run.run_id).values(claimed=raised(_b.claimed, len(missing)), **counts)
    )
    return connection.execute(completed.returning(batch_runs)).one()


def _name(connection: Connection, run: Any, indexes: Mapping[UUID, int]) -> None:
    """Write the index in the report into the row of each mail. Rows that another transaction has locked are skipped."""
    mine = sa.select(_r.id).where(_r.id.in_(sorted(indexes, key=str)), _r.run_id == run.run_id)
    free = connection.scalars(mine.with_for_update(skip_locked=True)).all()
    if free:
        named = sa.update(mail_reservations).where(_r.id == sa.bindparam("own"))
        found = [{"own": own, "index": indexes[own]} for own in free]
        connection.execute(named.values(item_index=sa.bindparam("index")), found)


def _counted(run: Any) -> sa.CompoundSelect[Any]:
    sent = sa.select(sa.literal("sent"), sa.func.count()).where(
        # A range of an index: the run has its own time.
        _r.status == sa.literal_column("'sent'"),
        _r.finished_at.is_not(None),
        _r.finished_at >= run.started_at,
        _r.run_id == run.run_id,
    )
    tried = sa.select(_a.outcome, sa.func.count()).where(_counted_by(run)).group_by(_a.outcome)
    return sa.union_all(sent, tried)


def _missing(run: Any) -> sa.Select[Any]:
    """Select the attempts that the report lacks: if it has *n* errors of a mail, all after the first *n* attempts."""
    said = (
        sa.select(_e.reservation_id, sa.func.count().label("times"))
        .where(_e.run_id == run.run_id)
        .group_by(_e.reservation_id)
        .subquery()
    )
    nth = sa.func.row_number().over(partition_by=_a.reservation_id, order_by=_a.claim_no).label("nth")
    tries = (
        sa.select(_a.reservation_id, _a.reply_code, _a.reply_text, _a.ended_at, nth).where(_counted_by(run)).subquery()
    )
    t = tries.c
    return (
        sa.select(t.reservation_id, t.reply_code, t.reply_text)
        .outerjoin(said, said.c.reservation_id == t.reservation_id)
        .where(t.nth > sa.func.coalesce(said.c.times, 0))
        .order_by(t.ended_at, t.reservation_id)
    )


def _counted_by(run: Any) -> sa.ColumnElement[bool]:
    """Return the condition that an attempt belongs in this run's report.

    A doubt belongs in the report of the run that resolved it.
    """
    text = sa.func.coalesce(_a.reply_text, "")
    resolved = text.endswith(f"{RESOLVED_BY}{run.run_id}")
    own = sa.and_(_a.run_id == run.run_id, sa.not_(text.contains(RESOLVED_BY)))
    return sa.and_(_a.outcome.in_(_TOLD), _a.ended_at >= run.started_at, sa.or_(own, resolved))


def _said(attempt: Any) -> str:
    return f"{attempt.reply_code or ''} {attempt.reply_text or ''}".strip()
