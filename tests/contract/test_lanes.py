"""One suite for the port ``Lanes``: the fake, SQLite and PostgreSQL behave alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.fake_stores import FakeLanes, FakeRuns
from support.fake_tables import FakeTables
from support.table_worlds import empty

from mailbatch.domain.run import Counts, RunOutcome, RunReport, Trigger
from mailbatch.infrastructure.db.lanes import SqlLanes
from mailbatch.infrastructure.db.runs import SqlRuns
from mailbatch.infrastructure.db.tables import batch_lanes, batch_runs
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

SILENT = 10.0


class Fake:
    def __init__(self) -> None:
        self.tables = FakeTables()
        self.runs, self.lanes = FakeRuns(self.tables), FakeLanes(self.tables)

    def silence_lane(self, run_id: UUID, lane: int) -> None:
        lanes, earlier = self.tables.lanes, self.tables.now - timedelta(seconds=SILENT + 1)
        lanes[run_id, lane] = replace(lanes[run_id, lane], heartbeat_at=earlier)

    def silence_run(self, run_id: UUID) -> None:
        runs, earlier = self.tables.runs, self.tables.now - timedelta(seconds=SILENT + 1)
        runs[run_id] = replace(runs[run_id], heartbeat_at=earlier)

    def settled(self, run_id: UUID, lane: int, counts: Counts) -> None:
        self.tables.settled[run_id, lane] = counts


class Sql:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.runs, self.lanes = SqlRuns(engine), SqlLanes(engine)

    def silence_lane(self, run_id: UUID, lane: int) -> None:
        l_ = batch_lanes.c
        self._execute(
            sa.update(batch_lanes).where(l_.run_id == run_id, l_.lane == lane).values(heartbeat_at=now(-SILENT - 1))
        )

    def silence_run(self, run_id: UUID) -> None:
        mine = sa.update(batch_runs).where(batch_runs.c.run_id == run_id)
        self._execute(mine.values(heartbeat_at=now(-SILENT - 1)))

    def settled(self, run_id: UUID, lane: int, counts: Counts) -> None:
        l_ = batch_lanes.c
        values = {"sent": counts.sent, "failed": counts.failed, "deferred": counts.deferred}
        self._execute(sa.update(batch_lanes).where(l_.run_id == run_id, l_.lane == lane).values(values))

    def _execute(self, statement: sa.Update) -> None:
        with self.engine.begin() as connection:
            connection.execute(statement)


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> Fake | Sql:
    if request.param == "fake":
        return Fake()
    engine = request.getfixturevalue({"sqlite": "kept_sqlite", "postgresql": "kept_postgres"}[request.param])
    empty(engine)
    return Sql(engine)


@pytest.fixture
def run_id(world: Fake | Sql) -> UUID:
    """A run that goes on."""
    run_id = uuid4()
    world.runs.open(run_id, "send-all", Trigger.BEAT, 8)
    return run_id


def end(world: Fake | Sql, run_id: UUID) -> None:
    world.runs.close("send-all", RunReport(run_id=run_id, trigger=Trigger.BEAT, outcome=RunOutcome.COMPLETED), None)


def test_a_helper_joins_a_run_that_goes_on_once(world, run_id):
    assert [world.lanes.join(run_id, lane) for lane in (1, 2, 1)] == [True, True, False]
    assert world.lanes.living(run_id, SILENT) == 2


@pytest.mark.parametrize("over", ["unknown", "ended", "told to stop", "sealed"])
def test_no_helper_joins_a_run_that_is_over(world, run_id, over):
    match over:
        case "unknown":
            run_id = uuid4()
        case "ended":
            end(world, run_id)
        case "told to stop":
            world.lanes.request_stop(run_id, RunOutcome.REVOKED)
        case "sealed":
            assert world.lanes.seal(run_id, SILENT)
    assert not world.lanes.join(run_id, 1)


def test_a_helper_lives_until_it_leaves_or_falls_silent(world, run_id):
    for lane in (1, 2, 3):
        world.lanes.join(run_id, lane)
    world.lanes.leave(run_id, 1, None)
    world.silence_lane(run_id, 2)
    assert world.lanes.living(run_id, SILENT) == 1
    world.lanes.beat(run_id, 2)
    assert world.lanes.living(run_id, SILENT) == 2
    assert world.lanes.living(uuid4(), SILENT) == 0


def test_a_run_is_sealed_only_when_no_helper_lives(world, run_id):
    world.lanes.join(run_id, 1)
    assert not world.lanes.seal(run_id, SILENT)
    assert world.lanes.must_stop(run_id, SILENT) is None
    world.lanes.leave(run_id, 1, "the database went away")
    assert world.lanes.seal(run_id, SILENT)
    assert not world.lanes.join(run_id, 2)


def test_the_counts_of_all_helpers_add_up(world, run_id):
    assert world.lanes.counts(run_id) == Counts()
    for lane in (1, 2):
        world.lanes.join(run_id, lane)
        world.settled(run_id, lane, Counts(sent=3 * lane, failed=1))
    world.lanes.leave(run_id, 1, None)
    assert world.lanes.counts(run_id) == Counts(sent=9, failed=2)


def test_the_first_reason_to_stop_stays(world, run_id):
    assert world.lanes.must_stop(run_id, SILENT) is None
    world.lanes.request_stop(run_id, RunOutcome.PAUSED)
    world.lanes.request_stop(run_id, RunOutcome.REVOKED)
    assert world.lanes.must_stop(run_id, SILENT) is RunOutcome.PAUSED


def test_a_helper_stops_when_its_run_has_ended_or_lost_its_leader(world, run_id):
    ended, unknown = uuid4(), uuid4()
    world.runs.open(ended, "send-all", Trigger.BEAT, 8)
    end(world, ended)
    world.silence_run(run_id)
    assert [world.lanes.must_stop(own, SILENT) for own in (run_id, ended, unknown)] == [RunOutcome.LOCK_LOST] * 3
