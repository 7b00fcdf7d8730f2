"""One suite for the port ``PauseStore``: the fake, SQLite and PostgreSQL behave alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fake_stores import FakePauseStore
from support.table_worlds import empty

from mailbatch.domain.run import Pause
from mailbatch.infrastructure.db.runs import SqlPauseStore

if TYPE_CHECKING:
    from mailbatch.application.ports.runs import PauseStore


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def pauses(request: pytest.FixtureRequest) -> PauseStore:
    if request.param == "fake":
        return FakePauseStore()
    engine = request.getfixturevalue({"sqlite": "kept_sqlite", "postgresql": "kept_postgres"}[request.param])
    empty(engine)
    return SqlPauseStore(engine)


def test_a_job_goes_on_until_it_is_paused(pauses):
    assert pauses.paused("send-all") is Pause.NONE


@pytest.mark.parametrize("pause", Pause)
def test_the_last_pause_holds_however_often_it_is_set(pauses, pause):
    for earlier in (*Pause, pause, pause):
        pauses.set("send-all", earlier)
    assert pauses.paused("send-all") is pause


def test_each_job_has_its_own_pause(pauses):
    pauses.set("send-all", Pause.ALL)
    pauses.set("purge", Pause.TICKS)
    assert [pauses.paused(job) for job in ("send-all", "purge", "nightly")] == [Pause.ALL, Pause.TICKS, Pause.NONE]
