"""Run reports on their way to people: stored by the transaction that closes a run, until they are delivered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.run import COUNTED, RunOutcome
from mailbatch.domain.run_notification import QUIET, DueReport, worth_telling
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.tables import batch_runs, run_reports
from mailbatch.infrastructure.db.types import now, raised, seconds_since, storable, upsert

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Connection, Engine

_b, _p = batch_runs.c, run_reports.c
_LEASE = 60.0
"""Seconds for which a report that was taken is returned to no other caller; one attempt takes less."""


def announce(
    connection: Connection, job: str, run_id: UUID, report: Mapping[str, Any], channels: Sequence[str]
) -> None:
    """Put the report of a run into the outbox, for each of ``channels``, if it is worth reading.

    A run that was closed as dead may be alive after all: then the report of its own end replaces the earlier one.
    """
    if not channels or not worth_telling(report):
        return
    finished = connection.scalar(sa.select(_b.finished_at).where(_b.run_id == run_id))
    told = {
        **report,
        "job": job,
        "finished_at": finished.isoformat() if finished else None,
        "quiet_runs": _quiet_runs(connection, job, run_id),
    }
    rows = [{"run_id": run_id, "channel": channel, "report": told, "next_at": now()} for channel in channels]
    for row in rows:
        insert = upsert(connection, run_reports).values(row)
        anew = {"report": insert.excluded.report, "next_at": now(), "attempts": 0, "delivered_at": None, "error": None}
        changed = _p.report != insert.excluded.report
        connection.execute(insert.on_conflict_do_update(index_elements=["run_id", "channel"], set_=anew, where=changed))


def report_of_dead(row: Any) -> dict[str, Any]:
    """Return the report of a run that died, from its row."""
    return {
        "run_id": str(row.run_id),
        "trigger": row.trigger,
        "outcome": RunOutcome.FAILED.value,
        **{name: getattr(row, name) for name in COUNTED},
        "remaining": row.remaining,
        "duration": 0.0,
        "bound": row.bound,
        "errors": [row.error],
    }


def _quiet_runs(connection: Connection, job: str, run_id: UUID) -> int:
    """Count the runs since the last one with a report that had nothing to report; all of them if none has a report."""
    # From the end of the index: the last run with a report is never far.
    last = (
        sa.select(_b.started_at)
        .where(_b.job == job, _b.run_id != run_id, sa.exists().where(_p.run_id == _b.run_id))
        .order_by(_b.started_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    since = sa.or_(last.is_(None), _b.started_at > last)
    nothing = sa.and_(_b.outcome.in_(sorted(QUIET)), *(_b[name] == 0 for name in COUNTED))
    quiet = sa.select(sa.func.count()).where(_b.job == job, nothing, _b.run_id != run_id, since)
    return int(connection.execute(quiet).scalar_one())


@dataclass(frozen=True, slots=True)
class SqlOutbox:
    """The port ``Outbox`` on PostgreSQL and SQLite."""

    engine: Engine

    def take(self, limit: int) -> list[DueReport]:
        """Return reports that are due. If their taker dies, a call after a minute returns them again."""
        some = (
            sa.select(_p.run_id, _p.channel)
            .where(_p.next_at <= now())
            .order_by(_p.next_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with writing(self.engine) as connection:
            found = connection.execute(some).all()
            if not found:
                return []
            key = sa.tuple_(_p.run_id, _p.channel).in_([tuple(row) for row in found])
            rows = connection.execute(
                sa.update(run_reports)
                .where(key)
                .values(next_at=now(_LEASE), attempts=raised(_p.attempts, 1))
                .returning(_p.run_id, _p.channel, _p.attempts, _p.report)
            ).all()
        return [DueReport(row.run_id, row.channel, row.attempts - 1, row.report) for row in rows]

    def delivered(self, one: DueReport) -> None:
        """Note that it has arrived."""
        self._note(one, delivered_at=now(), next_at=None, error=None)

    def failed(self, one: DueReport, reason: str, retry_in: float | None) -> None:
        """Note why it has not, and when to try again."""
        self._note(one, next_at=None if retry_in is None else now(retry_in), error=storable(reason))

    def next_in(self) -> float | None:
        """Seconds until the next is due."""
        with reading(self.engine) as connection:
            since = connection.execute(
                sa.select(seconds_since(sa.func.min(_p.next_at))).where(_p.next_at.is_not(None))
            ).scalar_one()
        return None if since is None else max(0.0, -float(since))

    def _note(self, one: DueReport, **values: Any) -> None:
        where = sa.and_(_p.run_id == one.run_id, _p.channel == one.channel)
        with writing(self.engine) as connection:
            connection.execute(sa.update(run_reports).where(where).values(**values))
