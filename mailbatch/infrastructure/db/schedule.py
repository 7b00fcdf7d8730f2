"""The rows of ``batch_schedule``, by which several beats agree on ticks; the database's clock decides what is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.domain.run import Pause, RunOutcome, Trigger
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.runs import DIED
from mailbatch.infrastructure.db.tables import batch_runs, batch_schedule
from mailbatch.infrastructure.db.types import now, upsert

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Engine


@dataclass(frozen=True, slots=True)
class EntryState:
    """The state of one entry of the schedule, as it was read."""

    name: str
    paused: Pause = Pause.NONE
    last_tick_at: datetime | None = None
    next_tick_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SqlSchedule:
    """The states of the schedule's entries. Every change is a compare-and-set on the state as it was read.

    Each method may raise ``StoreError``.
    """

    engine: Engine

    def read(self) -> tuple[datetime, Mapping[str, EntryState]]:
        """Return the database's time, and every state by its entry's name."""
        table = batch_schedule.c
        columns = (table.name, table.paused, table.last_tick_at, table.next_tick_at)
        with reading(self.engine) as connection:
            time = connection.execute(sa.select(now())).scalar_one()
            rows = connection.execute(sa.select(*columns)).all()
        return time, {
            row.name: EntryState(row.name, Pause(row.paused), row.last_tick_at, row.next_tick_at) for row in rows
        }

    def add(self, name: str, next_tick_at: datetime) -> None:
        """Add the entry ``name`` unless it is there."""
        slot = {"name": name, "next_tick_at": next_tick_at}
        with writing(self.engine) as connection:
            connection.execute(upsert(connection, batch_schedule).values(slot).on_conflict_do_nothing())

    def take(self, state: EntryState, next_tick_at: datetime) -> bool:
        """Take the tick, which is due. Returns False if another beat has it, or if the entry was paused meanwhile."""
        table = batch_schedule.c
        statement = (
            self._update(state)
            .where(table.paused == Pause.NONE.value)
            .values(last_tick_at=now(), next_tick_at=next_tick_at)
        )
        return self._changed(statement)

    def plan(self, state: EntryState, next_tick_at: datetime) -> bool:
        """Plan the next tick for another time. Returns False if the state has changed meanwhile."""
        return self._changed(self._update(state).values(next_tick_at=next_tick_at))

    def give_back(self, state: EntryState, taken_until: datetime, next_tick_at: datetime) -> bool:
        """Undo ``take(state, taken_until)``, because the tick could not be sent; try again at ``next_tick_at``."""
        table = batch_schedule.c
        statement = (
            sa.update(batch_schedule)
            .where(table.name == state.name, table.next_tick_at == taken_until)
            .values(last_tick_at=state.last_tick_at, next_tick_at=next_tick_at)
        )
        return self._changed(statement)

    def alive_since(self, job: str, tick: datetime, start: datetime) -> bool:
        """Return whether a run of ``job`` ended since ``tick``, or wrote a heartbeat since ``start``."""
        run = batch_runs.c
        statement = sa.select(
            sa.exists().where(
                run.job == job, sa.or_(run.started_at >= start, run.heartbeat_at >= start, run.finished_at >= tick)
            )
        )
        with reading(self.engine) as connection:
            return bool(connection.execute(statement).scalar_one())

    def was_cut_off(self, job: str) -> bool:
        """Return whether the newest run of ``job`` was cut off because its worker stopped or died.

        A run by hand does not count.
        """
        run = batch_runs.c
        newest = (
            sa.select(run.trigger, run.outcome, run.error)
            .where(run.job == job)
            .order_by(run.started_at.desc())
            .limit(1)
        )
        with reading(self.engine) as connection:
            row = connection.execute(newest).one_or_none()
        if row is None or Trigger(row.trigger).by_hand:
            return False
        return row.outcome in {None, RunOutcome.SHUTDOWN, RunOutcome.LOCK_LOST} or row.error == DIED

    def _update(self, state: EntryState) -> sa.Update:
        table = batch_schedule.c
        return sa.update(batch_schedule).where(
            table.name == state.name, table.next_tick_at.is_not_distinct_from(state.next_tick_at)
        )

    def _changed(self, statement: sa.Update) -> bool:
        with writing(self.engine) as connection:
            return connection.execute(statement).rowcount == 1
