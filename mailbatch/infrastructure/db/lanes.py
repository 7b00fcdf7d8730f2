"""The helpers of a run: which take part and live, what they have done, and the request to stop."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.domain.run import Counts, RunOutcome
from mailbatch.infrastructure.db.conditions import OPEN_RUN
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.tables import batch_lanes, batch_runs
from mailbatch.infrastructure.db.types import now, upsert

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.engine import Engine

_l = batch_lanes.c
_b = batch_runs.c


@dataclass(frozen=True, slots=True)
class SqlLanes:
    """The port ``Lanes`` on PostgreSQL and SQLite."""

    engine: Engine

    def join(self, run_id: UUID, lane: int) -> bool:
        """Take part, if the run goes on and the lane is free."""
        goes_on = sa.select(_b.run_id).where(_b.run_id == run_id, OPEN_RUN, _b.stop.is_(None))
        with writing(self.engine) as connection:
            # FOR UPDATE: lane 0 cannot close the run between this look and the lane's row.
            if connection.scalar(goes_on.with_for_update()) is None:
                return False
            row = {"run_id": run_id, "lane": lane, "host": socket.gethostname(), "pid": os.getpid()}
            taken = upsert(connection, batch_lanes).values(row).on_conflict_do_nothing().returning(_l.lane)
            return connection.scalar(taken) is not None

    def beat(self, run_id: UUID, lane: int) -> None:
        """Write a heartbeat."""
        with writing(self.engine) as connection:
            connection.execute(_mine(run_id, lane).values(heartbeat_at=now()))

    def leave(self, run_id: UUID, lane: int, error: str | None) -> None:
        """Write the end of the lane."""
        with writing(self.engine) as connection:
            connection.execute(_mine(run_id, lane).values(left_at=now(), error=error))

    def living(self, run_id: UUID, silent: float) -> int:
        """Count helpers that have not left and were heard of lately."""
        with reading(self.engine) as connection:
            return int(connection.scalar(_living(run_id, silent)) or 0)

    def seal(self, run_id: UUID, silent: float) -> bool:
        """Write that the run is complete, unless a helper lives: from now on no lane can join."""
        with writing(self.engine) as connection:
            # FOR UPDATE, as ``join``; and only then the look, in a statement that sees who has just joined.
            connection.execute(sa.select(_b.run_id).where(_b.run_id == run_id).with_for_update())
            if connection.scalar(_living(run_id, silent)):
                return False
            connection.execute(_request_stop(run_id, RunOutcome.COMPLETED))
        return True

    def counts(self, run_id: UUID) -> Counts:
        """Add up what the helpers have settled."""
        sums = [sa.func.coalesce(sa.func.sum(_l[name]), 0) for name in ("sent", "failed", "deferred", "in_doubt")]
        with reading(self.engine) as connection:
            return Counts(*(int(n) for n in connection.execute(sa.select(*sums).where(_l.run_id == run_id)).one()))

    def request_stop(self, run_id: UUID, reason: RunOutcome) -> None:
        """Write the reason where every lane reads it."""
        with writing(self.engine) as connection:
            connection.execute(_request_stop(run_id, reason))

    def must_stop(self, run_id: UUID, silent: float) -> RunOutcome | None:
        """Return why this lane must stop; see the port."""
        statement = sa.select(_b.stop, _b.outcome, (_b.heartbeat_at > now(-silent)).label("led")).where(
            _b.run_id == run_id
        )
        with reading(self.engine) as connection:
            row = connection.execute(statement).one_or_none()
        if row is not None and row.stop is not None:
            # Any other text there is a request to stop, too.
            return RunOutcome(row.stop) if row.stop in set(RunOutcome) else RunOutcome.REVOKED
        # A run without lane 0 has lost its lock, or soon will: then the next run takes over.
        return None if row is not None and row.outcome is None and row.led else RunOutcome.LOCK_LOST


def _living(run_id: UUID, silent: float) -> sa.Select[int]:
    return sa.select(sa.func.count()).where(_l.run_id == run_id, _l.left_at.is_(None), _l.heartbeat_at > now(-silent))


def _request_stop(run_id: UUID, reason: RunOutcome) -> sa.Update:
    return sa.update(batch_runs).where(_b.run_id == run_id, _b.stop.is_(None)).values(stop=reason.value)


def _mine(run_id: UUID, lane: int) -> sa.Update:
    return sa.update(batch_lanes).where(_l.run_id == run_id, _l.lane == lane)
