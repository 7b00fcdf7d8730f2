"""What monitoring reads is what runs have written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from support.backlogs import database, reserve

from mailbatch.application.looking.metrics import Measure
from mailbatch.bootstrap import Parts, read_settings
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.metrics import SqlMeasures
from mailbatch.infrastructure.db.reports import SqlReports
from mailbatch.infrastructure.db.tables import (
    batch_runs,
    batch_schedule,
    mail_attempts,
    mail_reservations,
    relay_circuits,
)
from mailbatch.interfaces.http.app import create_app
from mailbatch.interfaces.http.exposition import CONTENT_TYPE, FRESH, Exposition

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


def exposed(engine: Any, **given: Any) -> Exposition:
    return Exposition(
        Measure(SqlReports(engine), SqlMeasures(engine), lambda: None), version="1.2", interval=300, **given
    )


def samples(text: bytes) -> Samples:
    """Each sample of an exposition, read by somebody else's parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def add_run(url: str, started: datetime, *, outcome: str | None = "completed", job: str = "send-all", **columns: Any):
    columns = {"heartbeat_at": datetime.now(UTC), **columns}
    with database(url) as connection:
        connection.execute(
            sa.insert(batch_runs).values(
                run_id=uuid4(), job=job, trigger="beat", outcome=outcome, started_at=started, **columns
            )
        )


def test_an_empty_database_has_figures_too(engine):
    found = samples(exposed(engine)())
    assert of(found, "mailbatch_database_up") == 1
    assert of(found, "mailbatch_info", version="1.2") == 1
    assert of(found, "mailbatch_reservations", state="in_doubt") == 0
    assert of(found, "mailbatch_oldest_due_seconds") == 0
    assert of(found, "mailbatch_recent_lag_seconds_bucket", le="+Inf") == 0


def test_states_and_ages_are_those_of_the_reservations(engine, database_url, now):
    reserve(database_url, 3, scheduled_at=now - timedelta(seconds=100))
    reserve(database_url, 1, start=3, scheduled_at=now + timedelta(days=1))
    reserve(database_url, 1, start=4, status="in_doubt", wire_at=now - timedelta(seconds=50))
    found = samples(exposed(engine)())
    assert of(found, "mailbatch_reservations", state="pending") == 4
    assert of(found, "mailbatch_due") == 3
    assert of(found, "mailbatch_reservations_exact") == 1
    assert 100 <= of(found, "mailbatch_oldest_due_seconds") < 160
    assert 50 <= of(found, "mailbatch_in_doubt_oldest_seconds") < 110


def test_sums_begin_at_midnight_and_cut_no_run_in_two(engine, database_url):
    midnight = SqlMeasures(engine).figures().since
    assert midnight.timestamp() % 86_400 == 0
    assert datetime.now(UTC) - midnight < timedelta(days=1)
    yesterday = midnight - timedelta(hours=12)
    add_run(database_url, yesterday, sent=100, duration=9, finished_at=yesterday)
    add_run(database_url, midnight, sent=7, failed=2, duration=2, finished_at=midnight)
    add_run(database_url, midnight, duration=0.1, finished_at=midnight)
    found = samples(exposed(engine)())
    assert of(found, "mailbatch_sends_total", batch="send-all", outcome="sent") == 7
    assert of(found, "mailbatch_sends_total", batch="send-all", outcome="failed") == 2
    assert of(found, "mailbatch_sends_created", batch="send-all", outcome="sent") == midnight.timestamp()
    assert of(found, "mailbatch_runs_total", batch="send-all", outcome="completed") == 2
    # One of them did nothing, and would only hide how long the others take.
    assert of(found, "mailbatch_run_duration_seconds_count", batch="send-all") == 1
    assert of(found, "mailbatch_run_duration_seconds_bucket", batch="send-all", le="1.0") == 0
    assert of(found, "mailbatch_run_duration_seconds_bucket", batch="send-all", le="2.5") == 1
    # A run that goes on since yesterday keeps yesterday's sums alive until it ends.
    add_run(database_url, yesterday + timedelta(hours=1), outcome=None, sent=5)
    found = samples(exposed(engine)())
    assert of(found, "mailbatch_sends_total", batch="send-all", outcome="sent") == 112
    assert of(found, "mailbatch_running", batch="send-all") == 1


def test_the_last_run_is_told_and_one_that_a_pause_held_back_is_none(engine, database_url, now):
    began = now - timedelta(seconds=500)
    add_run(database_url, began, outcome="failed", finished_at=now - timedelta(seconds=400), remaining=9)
    add_run(database_url, now - timedelta(seconds=20), outcome="paused", finished_at=now - timedelta(seconds=20))
    with database(database_url) as connection:
        connection.execute(sa.insert(batch_schedule).values(name="send-all", paused="ticks", next_tick_at=now))
    found = samples(exposed(engine)())
    told = {"batch": "send-all"}
    assert of(found, "mailbatch_last_run_start_timestamp_seconds", **told) == pytest.approx(began.timestamp(), abs=0.01)
    assert 500 <= of(found, "mailbatch_last_run_age_seconds", **told) < 560
    assert of(found, "mailbatch_last_run_outcome", **told, outcome="paused") == 1
    assert of(found, "mailbatch_last_run_outcome", **told, outcome="failed") == 0
    assert of(found, "mailbatch_paused", **told) == 1
    assert of(found, "mailbatch_running", **told) == 0
    assert of(found, "mailbatch_next_tick_timestamp_seconds", **told) == pytest.approx(now.timestamp(), abs=0.01)


def test_recent_lags_and_refusals_are_counted_by_class_up_to_a_bound(engine, database_url, now):
    for i, lag in enumerate((0.5, 30, 4000)):
        at = now - timedelta(seconds=60)
        due = at - timedelta(seconds=lag)
        reserve(database_url, 1, start=i, status="sent", scheduled_at=due, sent_at=at, finished_at=at)
    long_ago = now - timedelta(hours=2)
    reserve(database_url, 1, start=8, status="sent", scheduled_at=long_ago, sent_at=long_ago, finished_at=long_ago)
    with database(database_url) as connection:
        ids = connection.scalars(sa.select(mail_reservations.c.id)).all()
        rows = [(0, "failed", 550), (1, "failed", None), (2, "deferred", 451), (3, "deferred", 421)]
        tries = [
            {"reservation_id": i, "claim_no": n, "outcome": outcome, "reply_code": code}
            for i in ids
            for n, outcome, code in rows
        ]
        connection.execute(sa.insert(mail_attempts), tries)
    text = exposed(engine)()
    found = samples(text)
    buckets = [of(found, "mailbatch_recent_lag_seconds_bucket", le=le) for le in ("1.0", "60.0", "3600.0", "+Inf")]
    assert buckets == [1, 2, 2, 3]
    assert of(found, "mailbatch_recent_refusals", **{"outcome": "failed", "class": "5xx"}) == 4
    assert of(found, "mailbatch_recent_refusals", **{"outcome": "failed", "class": "none"}) == 4
    assert of(found, "mailbatch_recent_refusals", **{"outcome": "deferred", "class": "4xx"}) == 8
    assert SqlMeasures(engine, sample=3).figures().refusals["deferred", "4xx"] == 3
    assert b"@" not in text


def test_a_relay_that_is_left_alone_shows(engine, database_url):
    with database(database_url) as connection:
        connection.execute(sa.insert(relay_circuits).values(relay="mx:25", state="open", failures=16))
    found = samples(exposed(engine, connections=lambda: {"mx:25": 3})())
    assert of(found, "mailbatch_relay_circuit", relay="mx:25", state="open") == 1
    assert of(found, "mailbatch_relay_circuit", relay="mx:25", state="closed") == 0
    assert of(found, "mailbatch_relay_failures", relay="mx:25") == 16
    assert of(found, "mailbatch_relay_connections", relay="mx:25") == 3


def test_any_number_of_scrapers_costs_one_look_every_ten_seconds(sqlite_url):
    engine = connect(sqlite_url)
    at = [0.0]
    expose = exposed(engine, clock=lambda: at[0])
    expose()
    reserve(sqlite_url, 1)
    at[0] = FRESH - 0.1
    assert of(samples(expose()), "mailbatch_due") == 0
    at[0] = FRESH
    assert of(samples(expose()), "mailbatch_due") == 1
    engine.dispose()


def test_a_database_that_is_away_is_told_and_nothing_is_guessed(tmp_path):
    engine = connect(f"sqlite:///{tmp_path}/none.db")
    found = samples(exposed(engine)())
    engine.dispose()
    assert of(found, "mailbatch_database_up") == 0
    assert not any(name.startswith("mailbatch_reservations") for name, _ in found)


def test_they_are_for_whoever_may_read(sqlite_url, monkeypatch):
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MAILBATCH_SCHEDULE", "0 0 6 * * 1-5")
    monkeypatch.setenv("MAILBATCH_API_TOKEN", "operates")
    monkeypatch.setenv("MAILBATCH_API_READ_TOKEN", "reads")
    parts = Parts(read_settings())
    with TestClient(create_app(parts), base_url="http://127.0.0.1") as client:
        assert client.get("/metrics").status_code == 401
        answer = client.get("/metrics", headers={"Authorization": "Bearer reads"})
    parts.close()
    assert (answer.status_code, answer.headers["content-type"]) == (200, CONTENT_TYPE)
    # A weekend lies between two of these ticks.
    assert of(samples(answer.content), "mailbatch_schedule_interval_seconds") == 3 * 86_400
