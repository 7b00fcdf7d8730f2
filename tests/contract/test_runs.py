"""The rows of runs: what becomes of those whose process died, in the fake as in the databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.fake_stores import FakeRuns

from mailbatch.domain.run import Trigger
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.runs import SqlRuns
from mailbatch.infrastructure.db.tables import batch_runs
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fake:
    def __init__(self) -> None:
        self.runs = FakeRuns()

    def fall_silent(self, run_id: UUID) -> None:
        self.runs.rows[run_id]["beat"] -= 11

    def row(self, run_id: UUID) -> dict[str, Any]:
        return self.runs.rows[run_id]


class Sql:
    def __init__(self, url: str) -> None:
        self.engine = connect(url)
        self.runs = SqlRuns(self.engine)

    def fall_silent(self, run_id: UUID) -> None:
        with self.engine.begin() as connection:
            late = sa.update(batch_runs).where(batch_runs.c.run_id == run_id)
            connection.execute(late.values(heartbeat_at=now(-11)))

    def row(self, run_id: UUID) -> Any:
        with self.engine.begin() as connection:
            return connection.execute(sa.select(batch_runs).where(batch_runs.c.run_id == run_id)).mappings().one()


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> Iterator[Fake | Sql]:
    if request.param == "fake":
        yield Fake()
        return
    made = Sql(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))
    yield made
    made.engine.dispose()


def test_a_run_that_died_is_closed_with_what_it_left(world):
    dead, alive = uuid4(), uuid4()
    for run_id in (dead, alive):
        world.runs.open(run_id, "send-all", Trigger.BEAT, 8)
    world.fall_silent(dead)
    assert world.runs.close_dead("send-all", 10, lambda: 7) == [dead]
    assert (world.row(dead)["outcome"], world.row(dead)["remaining"]) == ("failed", 7)
    assert world.row(alive)["outcome"] is None


def test_what_is_left_is_counted_only_if_a_run_has_died(world):
    world.runs.open(uuid4(), "send-all", Trigger.BEAT, 8)
    assert world.runs.close_dead("send-all", 10, lambda: pytest.fail("counted")) == []
