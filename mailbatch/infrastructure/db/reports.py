"""What is known of runs, and of the backlog as a whole: the adapter of the port ``Reports``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.census import Census, ErrorGroup, ScheduledJob
from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import LaneRow, RunRow
from mailbatch.domain.run import REPORTED, ItemError, Pause
from mailbatch.domain.run_notification import QUIET
from mailbatch.domain.settlement import Tally
from mailbatch.infrastructure.db.conditions import OPEN_RUN, has_come, has_expired, is_in, time_of
from mailbatch.infrastructure.db.counting import count_up_to, job_names
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

_WORTH_A_LOOK = sa.or_(
    OPEN_RUN,
    batch_runs.c.outcome.not_in(sorted(QUIET)),
    *(batch_runs.c[name] > 0 for name in REPORTED),
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
            s.value: count_up_to(self.cap + 1, is_in(s), order_by=[_r.created_at])
            for s in Status
        }
        statement = sa.select(
            *(count.label(name) for name, count in counted.items()),
            count_up_to(self.cap + 1, has_come(now())).label("due"),
            # Counted apart, because the index of what is due does not know expiries.
            count_up_to(self.cap + 1, has_come(now()), has_expired(now())).label("overdue"),
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
        a = mail_attempts.c
        began, ended = time_of(run_id)
        outcomes = [tally.value for tally in Tally if tally not in {Tally.SENT, Tally.RELEASED}]
        # The outcomes are few: so these are a few ranges of an index.
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

    def jobs(self) -> list[ScheduledJob]:
        """Read the names of those that have run, and what the schedule says; see the port."""
        s = batch_schedule.c
        with reading(self.engine) as connection:
            found = {name: ScheduledJob(name) for name in connection.scalars(job_names())}
            for row in connection.execute(sa.select(s.name, s.paused, s.next_tick_at)):
                found[row.name] = ScheduledJob(row.name, Pause(row.paused), row.next_tick_at)
        return [found[name] for name in sorted(found)]
