"""The rows by which any number of beats agree on ticks. Due is what the database's clock says is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mailbatch.domain.run import Pause, RunOutcome, Trigger
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.runs import DIED
from mailbatch.infrastructure.db.tables import batch_runs, batch_schedule
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Engine


@dataclass(frozen=True, slots=True)
class Slot:
    """The state of one entry of the schedule, as it was read."""

    name: str
    paused: Pause = Pause.NONE
    last_tick_at: datetime | None = None
    next_tick_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Timetable:
    """The slots of the schedule. Every change is a compare-and-set: it holds only on the slot as it was read.

    Each method may raise ``StoreError``.
    """

    engine: Engine

    def look(self) -> tuple[datetime, Mapping[str, Slot]]:
        """The database's time, and every slot by its name."""
        table = batch_schedule.c
        columns = (table.name, table.paused, table.last_tick_at, table.next_tick_at)
        with reading(self.engine) as connection:
            time = connection.execute(sa.select(now())).scalar_one()
            rows = connection.execute(sa.select(*columns)).all()
        return time, {row.name: Slot(row.name, Pause(row.paused), row.last_tick_at, row.next_tick_at) for row in rows}

    def add(self, name: str, next_tick_at: datetime) -> None:
        """Make the slot ``name`` unless it is there."""
        insert = sqlite.insert if self.engine.dialect.name == "sqlite" else postgresql.insert
        statement = insert(batch_schedule).values(name=name, next_tick_at=next_tick_at).on_conflict_do_nothing()
        with writing(self.engine) as connection:
            connection.execute(statement)

    def take(self, slot: Slot, next_tick_at: datetime) -> bool:
        """Take the tick of ``slot``, which is due; no, if another beat has it, or if it was paused meanwhile."""
        table = batch_schedule.c
        statement = (
            self._update(slot)
            .where(table.paused == Pause.NONE.value)
            .values(last_tick_at=now(), next_tick_at=next_tick_at)
        )
        return self._changed(statement)

    def move(self, slot: Slot, next_tick_at: datetime) -> bool:
        """Have the next tick of ``slot`` at another time; no, if the slot has changed meanwhile."""
        return self._changed(self._update(slot).values(next_tick_at=next_tick_at))

    def give_back(self, slot: Slot, taken_until: datetime, next_tick_at: datetime) -> bool:
        """Undo ``take(slot, taken_until)``, for the tick could not be sent; try again at ``next_tick_at``."""
        table = batch_schedule.c
        statement = (
            sa.update(batch_schedule)
            .where(table.name == slot.name, table.next_tick_at == taken_until)
            .values(last_tick_at=slot.last_tick_at, next_tick_at=next_tick_at)
        )
        return self._changed(statement)

    def alive_since(self, job: str, tick: datetime, start: datetime) -> bool:
        """Whether a run of ``job`` ended since ``tick``, or showed a sign of life since ``start``."""
        run = batch_runs.c
        statement = sa.select(
            sa.exists().where(
                run.job == job, sa.or_(run.started_at >= start, run.heartbeat_at >= start, run.finished_at >= tick)
            )
        )
        with reading(self.engine) as connection:
            return bool(connection.execute(statement).scalar_one())

    def was_cut_off(self, job: str) -> bool:
        """Whether the newest run of ``job`` was begun by a tick, and its worker stopped or died in the middle of it."""
        run = batch_runs.c
        newest = (
            sa.select(run.trigger, run.outcome, run.error)
            .where(run.job == job)
            .order_by(run.started_at.desc())
            .limit(1)
        )
        with reading(self.engine) as connection:
            row = connection.execute(newest).one_or_none()
        if row is None or row.trigger != Trigger.BEAT:
            return False
        return row.outcome in {None, RunOutcome.SHUTDOWN, RunOutcome.LOCK_LOST} or row.error == DIED

    def _update(self, slot: Slot) -> sa.Update:
        table = batch_schedule.c
        return sa.update(batch_schedule).where(
            table.name == slot.name, table.next_tick_at.is_not_distinct_from(slot.next_tick_at)
        )

    def _changed(self, statement: sa.Update) -> bool:
        with writing(self.engine) as connection:
            return connection.execute(statement).rowcount == 1
