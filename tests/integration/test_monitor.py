"""The monitor's check, every half minute in worker and beat, on a real database and a real Redis."""

from __future__ import annotations

from uuid import uuid4

import pytest
import sqlalchemy as sa
from support.backlogs import database, reserve, runs

from mailbatch.batch.monitor import check_once
from mailbatch.infrastructure.db.tables import batch_runs
from mailbatch.infrastructure.db.types import now


@pytest.fixture
def _settings(sqlite_url, redis_url, monkeypatch):
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MAILBATCH_REDIS_URL", redis_url)


@pytest.mark.usefixtures("_settings")
def test_the_row_of_a_run_that_died_is_closed_without_a_next_run(sqlite_url):
    with database(sqlite_url) as connection:
        times = {"started_at": now(-60), "heartbeat_at": now(-60)}
        connection.execute(sa.insert(batch_runs).values(run_id=uuid4(), job="send-all", trigger="beat", **times))
    reserve(sqlite_url, 3)
    assert [finding.name for finding in check_once()] == ["run_died"]
    [run] = runs(sqlite_url)
    assert (run.outcome, "process died" in run.error, run.remaining) == ("failed", True, 3)


@pytest.mark.usefixtures("_settings")
def test_the_monitor_works_without_redis(monkeypatch):
    monkeypatch.setenv("MAILBATCH_REDIS_URL", "redis://127.0.0.1:1/0")
    assert [finding.name for finding in check_once()] == ["redis_away"]
