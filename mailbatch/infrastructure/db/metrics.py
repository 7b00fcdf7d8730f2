"""The figures of a monitoring system, from the rows that runs have written anyway: the adapter of ``Measures``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.figures import DURATIONS, LAGS, RECENT, CircuitFigures, Figures, Histogram, JobFigures
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import COUNTED, DEAD_AFTER, Pause, RunOutcome
from mailbatch.infrastructure.db.conditions import CLOCKS_DIFFER, OPEN_RUN, SENT, is_in
from mailbatch.infrastructure.db.counting import job_names
from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.tables import (
    batch_runs,
    batch_schedule,
    mail_attempts,
    mail_reservations,
    relay_circuits,
)
from mailbatch.infrastructure.db.types import MOST, Timestamp, now, seconds_since, storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection, Engine

SAMPLE = 10_000
"""Rows of one kind that are read at most, the newest first."""
_LONGEST = 1e9
"""Seconds. A duration that is longer cannot be right, and is not counted."""
_b, _r, _a = batch_runs.c, mail_reservations.c, mail_attempts.c


@dataclass(frozen=True, slots=True)
class SqlMeasures:
    """The port ``Measures`` on PostgreSQL and SQLite. ``sample`` bounds each look at mails, in rows."""

    engine: Engine
    sample: int = SAMPLE

    def figures(self) -> Figures:
        """Read them all; see the port."""
        with reading(self.engine) as connection:
            names = list(connection.scalars(job_names()))
            living = _living(connection, names)
            since = _since(connection, living.values())
            slots = {row.name: row for row in connection.execute(sa.select(batch_schedule))}
            sums = connection.execute(_sums(names, since)).mappings().all()
            return Figures(
                since=since,
                jobs=[
                    _job(
                        connection, name, slots.get(name), [s for s in sums if s["job"] == name], running=name in living
                    )
                    for name in sorted({*names, *slots})
                ],
                refusals=self._refusals(connection),
                lags=_histogram(connection.execute(self._lags()).one(), LAGS),
                in_doubt_oldest=connection.scalar(self._in_doubt_oldest()),
                circuits=_circuits(connection),
            )

    def _refusals(self, connection: Connection) -> dict[tuple[str, str], int]:
        """Count the newest attempts of each outcome by reply. One outcome at a time, so that an index gives them."""
        found: Counter[tuple[str, str]] = Counter()
        for outcome in ("failed", "deferred", "in_doubt"):
            newest = (
                sa.select(_a.reply_code)
                .where(_a.outcome == outcome, _a.ended_at >= now(-RECENT))
                .order_by(_a.ended_at.desc())
                .limit(self.sample)
                .subquery()
            )
            by_code = sa.select(newest.c.reply_code, sa.func.count()).group_by(newest.c.reply_code)
            for code, count in connection.execute(by_code):
                found[outcome, f"{code // 100}xx" if code else "none"] += count
        return dict(found)

    def _lags(self) -> sa.Select[Any]:
        newest = (
            sa.select((seconds_since(_r.due_at) - seconds_since(_r.finished_at)).label("lag"))
            .where(_r.finished_at.between(now(-RECENT), now(CLOCKS_DIFFER)), SENT)
            .order_by(_r.finished_at.desc(), _r.id.desc())
            .limit(self.sample)
            .subquery()
        )
        return sa.select(*_classes(newest.c.lag, LAGS)).select_from(newest)

    def _in_doubt_oldest(self) -> sa.Select[Any]:
        oldest = (
            sa.select(sa.func.coalesce(_r.wire_at, _r.created_at).label("at"))
            .where(is_in(Status.IN_DOUBT))
            .order_by(_r.created_at)
            .limit(self.sample)
            .subquery()
        )
        return sa.select(seconds_since(sa.func.min(oldest.c.at)))


def _circuits(connection: Connection) -> list[CircuitFigures]:
    rows = connection.execute(sa.select(relay_circuits).order_by(relay_circuits.c.relay))
    # One for each name: Prometheus refuses a label that appears twice.
    found = {(name := storable(row.relay)): CircuitFigures(name, row.state, row.failures) for row in rows}
    return list(found.values())


def _living(connection: Connection, names: Sequence[str]) -> dict[str, datetime]:
    """Return the jobs that are running, each with the start of its run."""
    open_runs = (
        sa.select(_b.job, sa.func.min(_b.started_at, type_=Timestamp()))
        .where(_b.job.in_(names), OPEN_RUN, _b.heartbeat_at >= now(-DEAD_AFTER))
        .group_by(_b.job)
    )
    return {row[0]: row[1] for row in connection.execute(open_runs)}


def _since(connection: Connection, starts: Iterable[datetime]) -> datetime:
    """Return the time from which sums count (``Figures``). A sum over all rows would fall when a purge deletes runs."""
    today: datetime = connection.execute(sa.select(now())).scalar_one()
    return min([today, *starts]).replace(hour=0, minute=0, second=0, microsecond=0)


def _sums(names: Sequence[str], since: datetime) -> sa.Select[Any]:
    busy = sa.or_(*(_b[name] > 0 for name in COUNTED))
    took = sa.case((sa.and_(busy, _b.duration.between(0, _LONGEST)), _b.duration))
    return (
        sa.select(
            _b.job,
            _b.outcome,
            sa.func.count().label("runs"),
            *(sa.func.sum(sa.case((_b[name].between(0, MOST), _b[name]), else_=0)).label(name) for name in COUNTED),
            *_classes(took, DURATIONS),
        )
        .where(_b.job.in_(names), _b.started_at >= since)
        .group_by(_b.job, _b.outcome)
    )


def _job(
    connection: Connection, name: str, slot: sa.Row[Any] | None, sums: Sequence[Any], *, running: bool
) -> JobFigures:
    newest = sa.select(batch_runs, seconds_since(_b.started_at).label("silent")).where(_b.job == name)
    newest = newest.order_by(_b.started_at.desc()).limit(1)
    # A run that a pause held back has done nothing: it does not count as the last run.
    real = sa.or_(OPEN_RUN, _b.outcome != RunOutcome.PAUSED.value)
    started = connection.execute(newest.where(real)).one_or_none()
    ended = connection.execute(newest.where(_b.outcome.is_not(None))).one_or_none()
    durations = [_histogram(tuple(row.values())[-len(DURATIONS) - 2 :], DURATIONS) for row in sums]
    return JobFigures(
        job=storable(name),
        paused=slot is not None and slot.paused != Pause.NONE,
        running=running,
        last_tick_at=slot.last_tick_at if slot else None,
        next_tick_at=slot.next_tick_at if slot else None,
        started_at=started.started_at if started else None,
        silent=max(0.0, started.silent or 0.0) if started else None,
        finished_at=ended.finished_at if ended else None,
        outcome=ended.outcome if ended else None,
        remaining=ended.remaining if ended else 0,
        runs={row["outcome"]: row["runs"] for row in sums if row["outcome"]},
        items={item: sum(int(row[item]) for row in sums) for item in COUNTED},
        durations=reduce(add, durations, _histogram((0,) * (len(DURATIONS) + 2), DURATIONS)),
    )


def _classes(value: Any, ends: Sequence[float]) -> list[sa.Label[Any]]:
    """Return columns: for each end how many values are at most that, how many there are, and their sum."""
    below = [sa.func.sum(sa.case((value <= end, 1), else_=0)).label(f"le_{i}") for i, end in enumerate(ends)]
    return [*below, sa.func.count(value).label("le_all"), sa.func.sum(value).label("total")]


def _histogram(row: Sequence[Any], ends: Sequence[float]) -> Histogram:
    *counts, total = row
    assert len(counts) == len(ends) + 1  # noqa: S101 - what _classes gives
    return Histogram(tuple(int(count or 0) for count in counts), float(total or 0.0))
