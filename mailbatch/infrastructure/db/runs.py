"""The rows of runs and of their errors, and the pause of a job."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.run import STOPPED, ItemError, NewestRun, OpenRun, Pause, RunOutcome, Trigger
from mailbatch.infrastructure.db.conditions import OPEN_RUN
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.reconcile import reconcile
from mailbatch.infrastructure.db.run_reports import announce, report_of_dead
from mailbatch.infrastructure.db.tables import batch_lanes, batch_runs, batch_schedule, run_errors
from mailbatch.infrastructure.db.types import now, seconds_since, storable, upsert

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Engine

    from mailbatch.domain.run import Counts, RunReport

_b = batch_runs.c
DIED = "[JOB EXEC ERROR] the run's process died: no heartbeat, no end"
"""The error of a run that another process had to close."""


@dataclass(frozen=True, slots=True)
class SqlRuns:
    """The port ``Runs`` on PostgreSQL and SQLite. ``channels``: by which the ends of runs are reported to people."""

    engine: Engine
    channels: Sequence[str] = ()

    def open(self, run_id: UUID, job: str, trigger: Trigger, bound: int) -> None:
        """Write the row of a run that begins now."""
        with writing(self.engine) as connection:
            connection.execute(
                sa.insert(batch_runs).values(
                    run_id=run_id,
                    job=job,
                    trigger=trigger.value,
                    bound=bound,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    started_at=now(),
                    heartbeat_at=now(),
                )
            )

    def beat(self, run_id: UUID, counts: Counts) -> None:
        """Write a heartbeat, and how far the run is."""
        with writing(self.engine) as connection:
            connection.execute(
                sa.update(batch_runs).where(_b.run_id == run_id, OPEN_RUN).values(heartbeat_at=now(), **asdict(counts))
            )

    def errors(self, run_id: UUID, errors: Sequence[ItemError]) -> None:
        """Append item errors. One that was written before stays: the caller repeats a call whose reply was lost."""
        if not errors:
            return
        rows = [
            {
                "run_id": run_id,
                "item_index": e.index,
                "reservation_id": e.reservation_id,
                "errors": [storable(error) for error in e.errors],
            }
            for e in errors
        ]
        with writing(self.engine) as connection:
            connection.execute(upsert(connection, run_errors).on_conflict_do_nothing(), rows)

    def raise_bound(self, run_id: UUID, mails: int) -> None:
        """Add to the bound. Several lanes may do so at the same time."""
        with writing(self.engine) as connection:
            connection.execute(
                sa.update(batch_runs).where(_b.run_id == run_id, OPEN_RUN).values(bound=_b.bound + mails)
            )

    def close(self, job: str, report: RunReport, error: str | None) -> int | None:
        """Write how the run ended. A caller that got no reply repeats the call: then the time and the report stay."""
        again = sa.and_(_b.outcome == report.outcome.value, _b.error.is_not_distinct_from(error))
        with writing(self.engine) as connection:
            row = connection.execute(
                sa.update(batch_runs)
                .where(_b.run_id == report.run_id, _b.job == job)
                .values(
                    outcome=report.outcome.value,
                    finished_at=sa.case((again, _b.finished_at), else_=now()),
                    heartbeat_at=now(),
                    duration=report.duration,
                    remaining=report.remaining,
                    error=error,
                    **asdict(report.counts),
                )
                .returning(batch_runs)
            ).one_or_none()
            # A run that failed may have settled mails without a reply; a helper that died has not written all errors.
            if row is not None and (report.outcome is RunOutcome.FAILED or connection.scalar(_lost_helpers(row))):
                reconcile(connection, row)
            bound = report.bound if row is None else int(row.bound)
            if report.run_id is not None:
                announce(connection, job, report.run_id, {**report.as_dict(), "bound": bound}, self.channels)
        return None if row is None else bound

    def open_run(self, job: str) -> OpenRun | None:
        """Return the newest run of ``job`` that has not ended, and for how long it has been silent."""
        statement = (
            sa.select(_b.run_id, _b.started_at, seconds_since(_b.heartbeat_at).label("silent"))
            .where(_b.job == job, OPEN_RUN)
            .order_by(_b.started_at.desc())
            .limit(1)
        )
        with reading(self.engine) as connection:
            row = connection.execute(statement).one_or_none()
        return None if row is None else OpenRun(row.run_id, row.started_at, row.silent or 0.0)

    def close_dead(self, job: str, silent: float, remaining: Callable[[], int] = lambda: 0) -> list[UUID]:
        """Close runs whose process died: Celery does not report it after a kill of the worker."""
        died = sa.and_(_b.job == job, OPEN_RUN, _b.heartbeat_at < now(-silent))
        with reading(self.engine) as connection:
            if not connection.scalar(sa.select(sa.exists().where(died))):
                return []
        left = remaining()
        statement = (
            sa.update(batch_runs)
            .where(died)
            .values(outcome=RunOutcome.FAILED.value, error=DIED, finished_at=now(), remaining=left)
            .returning(batch_runs)
        )
        with writing(self.engine) as connection:
            dead = [reconcile(connection, row) for row in connection.execute(statement).all()]
            for row in dead:
                announce(connection, job, row.run_id, report_of_dead(row), self.channels)
        return [row.run_id for row in dead]

    def first_errors(self, run_id: UUID, limit: int) -> list[ItemError]:
        """The first item errors of a run, of all its lanes, by index."""
        e = run_errors.c
        statement = (
            sa.select(e.item_index, e.reservation_id, e.errors)
            .where(e.run_id == run_id)
            .order_by(e.item_index)
            .limit(limit)
        )
        with reading(self.engine) as connection:
            return [
                ItemError(row.item_index, row.reservation_id, tuple(row.errors))
                for row in connection.execute(statement)
            ]

    def outcome_of(self, run_id: UUID) -> RunOutcome | None:
        """How a run ended; None while it goes on, or if there is none."""
        with reading(self.engine) as connection:
            outcome = connection.scalar(sa.select(_b.outcome).where(_b.run_id == run_id))
        return RunOutcome(outcome) if outcome else None

    def newest(self, job: str) -> NewestRun | None:
        """The run that began last; see the port."""
        statement = (
            sa.select(
                _b.run_id,
                _b.trigger,
                _b.outcome,
                _b.claimed,
                seconds_since(sa.func.coalesce(_b.finished_at, _b.heartbeat_at)).label("silent"),
            )
            .where(_b.job == job)
            .order_by(_b.started_at.desc())
            .limit(1)
        )
        with reading(self.engine) as connection:
            row = connection.execute(statement).one_or_none()
        if row is None:
            return None
        outcome = RunOutcome(row.outcome) if row.outcome else None
        return NewestRun(row.run_id, Trigger(row.trigger), outcome, row.silent or 0.0, row.claimed)

    def request_stop(self, run_id: UUID) -> bool:
        """Write the request where every lane reads it; see the port."""
        statement = sa.update(batch_runs).where(_b.run_id == run_id, OPEN_RUN, _b.stop.is_(None))
        with writing(self.engine) as connection:
            return connection.execute(statement.values(stop=RunOutcome.REVOKED.value)).rowcount == 1

    def stop_request(self, run_id: UUID) -> RunOutcome | None:
        """Read the reason; see the port. Lane 0 writes ``completed`` there to let no lane join: that is no reason."""
        with reading(self.engine) as connection:
            told = connection.scalar(sa.select(_b.stop).where(_b.run_id == run_id))
        if told is None or told in set(RunOutcome) - STOPPED:
            return None
        # Any other text there is a request to stop, too.
        return RunOutcome(told) if told in STOPPED else RunOutcome.REVOKED


def _lost_helpers(run: Any) -> sa.Select[bool]:
    return sa.select(sa.exists().where(batch_lanes.c.run_id == run.run_id, batch_lanes.c.left_at.is_(None)))


@dataclass(frozen=True, slots=True)
class SqlPauseStore:
    """The port ``PauseStore``: the pause stands beside the job's schedule."""

    engine: Engine

    def paused(self, job: str) -> Pause:
        """What is suspended now."""
        with reading(self.engine) as connection:
            paused = connection.scalar(sa.select(batch_schedule.c.paused).where(batch_schedule.c.name == job))
        return Pause(paused or Pause.NONE)

    def set(self, job: str, pause: Pause) -> None:
        """Suspend, or continue. A tick that became due in a pause counts as due from the end of the pause."""
        s = batch_schedule.c
        waited = sa.and_(s.paused != Pause.NONE.value, s.next_tick_at < now())
        resumed = {"next_tick_at": sa.case((waited, now()), else_=s.next_tick_at)} if pause is Pause.NONE else {}
        with writing(self.engine) as connection:
            insert = upsert(connection, batch_schedule).values(name=job, paused=pause.value)
            values = {"paused": insert.excluded.paused, **resumed}
            connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=values))
