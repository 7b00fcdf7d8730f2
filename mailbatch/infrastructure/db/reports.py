"""What is known of runs, and of the backlog as a whole: the adapter of the port ``Reports``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.census import Census, ErrorGroup, Job
from mailbatch.domain.lifecycle import Tally
from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import LaneRow, RunRow
from mailbatch.domain.run import ItemError, Pause
from mailbatch.domain.run_notification import COUNTED, QUIET
from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.oldest import oldest_due
from mailbatch.infrastructure.db.rows import all_of, first_of
from mailbatch.infrastructure.db.tables import (
    batch_lanes,
    batch_runs,
    batch_schedule,
    mail_attempts,
    mail_reservations,
    run_errors,
)
from mailbatch.infrastructure.db.types import now, seconds_since

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from sqlalchemy.engine import Engine

    from mailbatch.domain.rows import RunPlace

_r = mail_reservations.c
_CAP = 100_000
"""Rows of one state that are counted at most: a table of many millions must not make a status wait."""
_PAGE = 500
_RUNS = sa.select(batch_runs, seconds_since(batch_runs.c.heartbeat_at).label("silent"))
# As literals, so that the partial indexes are seen to fit.
_PENDING = _r.status == sa.literal_column("'pending'")
_DUE = sa.and_(_PENDING, _r.due_at <= now())
_OVERDUE = sa.and_(_DUE, _r.expires_at.is_not(None), _r.expires_at <= now())

_WORTH_A_LOOK = sa.or_(
    batch_runs.c.outcome.is_(None),
    batch_runs.c.outcome.not_in(sorted(QUIET)),
    *(batch_runs.c[name] > 0 for name in (*COUNTED, "remaining")),
)


@dataclass(frozen=True, slots=True)
class SqlReports:
    """The port ``Reports`` on PostgreSQL and SQLite. ``cap`` bounds each count."""

    engine: Engine
    cap: int = _CAP

    def census(self) -> Census:
        """Count each state, up to the cap; see the port."""
        counted: dict[str, Any] = {
            # In the order of an index: else PostgreSQL reads the table, to its end if the state stands there.
            s.value: self._counted(_r.status == sa.literal_column(f"'{s.value}'"), _r.created_at)
            for s in Status
        }
        statement = sa.select(
            *(count.label(name) for name, count in counted.items()),
            self._counted(_DUE).label("due"),
            # Apart, for the index of what is due does not know expiries; whoever is overdue waits for the next run.
            self._counted(_OVERDUE).label("overdue"),
            sa.select(seconds_since(oldest_due())).scalar_subquery().label("oldest"),
        )
        with reading(self.engine) as connection:
            found = connection.execute(statement).mappings().one()
        return Census(
            counts={s: min(found[s.value], self.cap) for s in Status},
            due=max(0, min(found["due"], self.cap) - found["overdue"]),
            oldest_due_seconds=None if found["oldest"] is None else max(0.0, float(found["oldest"])),
            exact=all(found[name] <= self.cap for name in (*counted, "due")),
        )

    def runs(self, job: str, limit: int, before: RunPlace | None = None, *, quiet: bool = True) -> list[RunRow]:
        """Read the last runs; see the port."""
        c = batch_runs.c
        statement = _RUNS.where(c.job == job).order_by(c.started_at.desc(), c.run_id.desc()).limit(limit)
        if before is not None:
            last = sa.literal(before.started_at, c.started_at.type), sa.literal(before.run_id, c.run_id.type)
            statement = statement.where(sa.tuple_(c.started_at, c.run_id) < sa.tuple_(*last))
        if not quiet:
            statement = statement.where(_WORTH_A_LOOK)
        with reading(self.engine) as connection:
            return all_of(RunRow, connection, statement)

    def run(self, run_id: UUID) -> RunRow | None:
        """Read one run; see the port."""
        with reading(self.engine) as connection:
            return first_of(RunRow, connection, _RUNS.where(batch_runs.c.run_id == run_id))

    def lane(self, run_id: UUID, lane: int) -> LaneRow | None:
        """Read one helper; see the port."""
        statement = sa.select(batch_lanes).where(batch_lanes.c.run_id == run_id, batch_lanes.c.lane == lane)
        with reading(self.engine) as connection:
            return first_of(LaneRow, connection, statement)

    def errors(self, run_id: UUID, after: int = 0) -> Iterator[ItemError]:
        """Read the errors of a run, page by page: there may be one for each of a million mails."""
        c = run_errors.c
        page = sa.select(run_errors).where(c.run_id == run_id).order_by(c.item_index).limit(_PAGE)
        last = after
        while True:
            with reading(self.engine) as connection:
                rows = connection.execute(page.where(c.item_index > last)).all()
            for row in rows:
                yield ItemError(row.item_index, row.reservation_id or "", tuple(map(str, row.errors)))
            if len(rows) < _PAGE:
                return
            last = rows[-1].item_index

    def error_groups(self, run_id: UUID) -> list[ErrorGroup]:
        """Count the tries of a run that were not accepted; see the port. At most ``cap`` of them are looked at."""
        a, run = mail_attempts.c, batch_runs.c
        began = sa.select(run.started_at).where(run.run_id == run_id).scalar_subquery()
        ended = sa.select(sa.func.coalesce(run.finished_at, now(60))).where(run.run_id == run_id).scalar_subquery()
        outcomes = [tally.value for tally in Tally if tally not in {Tally.SENT, Tally.RELEASED}]
        # A run has its own time, and the outcomes are few: so it is a range of an index.
        tries = (
            sa.select(a.outcome, a.reply_code, a.enhanced_code, a.reply_text)
            .where(a.outcome.in_(outcomes), a.ended_at >= began, a.ended_at <= ended, a.run_id == run_id)
            .limit(self.cap)
            .subquery()
        )
        kind = (tries.c.outcome, tries.c.reply_code, tries.c.enhanced_code)
        statement = (
            sa.select(*kind, sa.func.count().label("n"), sa.func.min(tries.c.reply_text).label("example"))
            .group_by(*kind)
            .order_by(sa.desc("n"), *kind)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(statement).all()
        return [ErrorGroup(row.outcome, row.reply_code, row.enhanced_code, row.n, row.example) for row in rows]

    def jobs(self) -> list[Job]:
        """Read the names from the schedule and, one step of the index for each, from the runs; see the port."""
        b, s = batch_runs.c, batch_schedule.c
        names = sa.select(sa.func.min(b.job).label("job")).cte("names", recursive=True)
        behind = sa.select(sa.func.min(b.job)).where(b.job > names.c.job).scalar_subquery()
        names = names.union_all(sa.select(behind).where(names.c.job.is_not(None)))
        with reading(self.engine) as connection:
            ran = connection.execute(sa.select(names.c.job).where(names.c.job.is_not(None))).scalars()
            found = {name: Job(name) for name in ran}
            for row in connection.execute(sa.select(s.name, s.paused, s.next_tick_at)):
                found[row.name] = Job(row.name, Pause(row.paused), row.next_tick_at)
        return [found[name] for name in sorted(found)]

    def _counted(self, condition: sa.ColumnElement[bool], *order: sa.ColumnElement[Any]) -> Any:
        rows: sa.Select[Any] = (
            sa.select(sa.literal_column("1")).select_from(mail_reservations).where(condition).order_by(*order)
        ).limit(self.cap + 1)
        return sa.select(sa.func.count()).select_from(rows.subquery()).scalar_subquery()
