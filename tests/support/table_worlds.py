"""Rows in tables, and the adapters that read them: in memory, and on a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from support.fake_blocks import FakeBlocks
from support.fake_files import FakeFiles
from support.fake_reservations import FakeInterventions, FakeReservations
from support.fake_tables import FakeDuplicates, FakeHealthQuery, FakeMeasures, FakeReports, FakeTables, FakeUpcoming
from support.operating import steady

from mailbatch.domain.circuit import Circuit
from mailbatch.domain.rows import AttemptRow, LaneRow, ReservationRow, Row, RunRow, as_dict
from mailbatch.infrastructure.db.blocks import SqlBlocks
from mailbatch.infrastructure.db.duplicates import SqlDuplicates
from mailbatch.infrastructure.db.files import SqlFiles
from mailbatch.infrastructure.db.health_query import SqlHealthQuery
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.metrics import SqlMeasures
from mailbatch.infrastructure.db.reports import SqlReports
from mailbatch.infrastructure.db.reservations import SqlReservations
from mailbatch.infrastructure.db.runs import SqlRuns
from mailbatch.infrastructure.db.schedule import EntryState
from mailbatch.infrastructure.db.tables import (
    batch_lanes,
    batch_runs,
    batch_schedule,
    mail_attempts,
    mail_files,
    mail_reservations,
    metadata,
    relay_circuits,
)
from mailbatch.infrastructure.db.upcoming import SqlUpcoming

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.engine import Engine

    from mailbatch.domain.run import ItemError

_TABLES = {ReservationRow: mail_reservations, AttemptRow: mail_attempts, RunRow: batch_runs, LaneRow: batch_lanes}


class FakeWorld:
    """Tables in memory."""

    def __init__(self) -> None:
        self.tables = FakeTables()
        self.now = self.tables.now
        self.reports = FakeReports(self.tables)
        self.reservations = FakeReservations(self.tables)
        self.interventions = FakeInterventions(self.tables)
        self.health_query = FakeHealthQuery(self.tables)
        self.upcoming = FakeUpcoming(self.tables)
        self.duplicates = FakeDuplicates(self.tables)
        self.measures = FakeMeasures(self.tables)
        self.files = FakeFiles(self.tables)
        self.blocks = FakeBlocks(self.tables)

    def ago(self, seconds: float) -> datetime:
        return self.now - timedelta(seconds=seconds)

    def act_in_portions_of(self, rows: int) -> None:
        self.interventions.portion = rows

    def put(self, *rows: Row | EntryState | Circuit) -> None:
        t = self.tables
        for row in rows:
            match row:
                case ReservationRow():
                    t.reservations[row.id] = row
                case AttemptRow():
                    t.attempts.append(row)
                case RunRow():
                    t.runs[row.run_id] = row
                case LaneRow():
                    t.lanes[row.run_id, row.lane] = row
                case EntryState():
                    t.slots[row.name] = row
                case Circuit():
                    t.circuits[row.relay] = row

    def age_files(self, seconds: float) -> None:
        """Let every file have been touched so much earlier."""
        files, earlier = self.tables.files, timedelta(seconds=seconds)
        files |= {own: replace(kept, touched_at=kept.touched_at - earlier) for own, kept in files.items()}

    def put_errors(self, run_id: UUID, errors: list[ItemError]) -> None:
        self.tables.errors.setdefault(run_id, []).extend(errors)


class SqlWorld:
    """The tables of a database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = datetime.now(UTC)
        self.reports = SqlReports(engine)
        self.reservations = SqlReservations(engine)
        self.interventions = SqlInterventions(engine)
        self.health_query = SqlHealthQuery(engine)
        self.upcoming = SqlUpcoming(engine)
        self.duplicates = SqlDuplicates(engine)
        self.measures = SqlMeasures(engine)
        self.files = SqlFiles(engine)
        self.blocks = SqlBlocks(engine)

    def ago(self, seconds: float) -> datetime:
        return self.now - timedelta(seconds=seconds)

    def act_in_portions_of(self, rows: int) -> None:
        self.interventions = SqlInterventions(self.engine, steady(rows))

    def put(self, *rows: Row | EntryState | Circuit) -> None:
        with self.engine.begin() as connection:
            for row in rows:
                table, values = _stored(row)
                named = {n: v.value if isinstance(v, Enum) else v for n, v in values.items() if n in table.c}
                written = {n: v for n, v in named.items() if table.c[n].computed is None}
                connection.execute(sa.insert(table).values(written))

    def age_files(self, seconds: float) -> None:
        """Let every file have been touched so much earlier."""
        with self.engine.begin() as connection:
            for own, touched_at in connection.execute(sa.select(mail_files.c.id, mail_files.c.touched_at)).all():
                earlier = sa.update(mail_files).where(mail_files.c.id == own)
                connection.execute(earlier.values(touched_at=touched_at - timedelta(seconds=seconds)))

    def put_errors(self, run_id: UUID, errors: list[ItemError]) -> None:
        SqlRuns(self.engine).errors(run_id, errors)


World = FakeWorld | SqlWorld


def _stored(row: Row | EntryState | Circuit) -> tuple[sa.Table, dict[str, Any]]:
    match row:
        case EntryState():
            return batch_schedule, {name: getattr(row, name) for name in EntryState.__slots__}
        case Circuit():
            return relay_circuits, {name: getattr(row, name) for name in ("relay", "state", "failures", "reason")}
        case _:
            return _TABLES[type(row)], as_dict(row)


def empty(engine: Engine) -> None:
    """Delete every row: quicker than a database of each test's own."""
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table))
