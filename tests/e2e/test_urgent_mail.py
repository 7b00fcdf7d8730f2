"""Urgent mail, for real: a worker finds it within a second and starts a run, and in a run it goes before all others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from support.backlogs import database, ended, reserve, runs, states
from support.stack import Stack
from support.waiting import wait_until

from mailbatch.infrastructure.db.circuits import SqlCircuits
from mailbatch.infrastructure.db.engine import connect

if TYPE_CHECKING:
    from support.sink import Sink

SOON = 30.0
"""Seconds, on a busy machine; without this feature it takes minutes. The bench measures what a quiet machine needs."""
INSERT = (
    "INSERT INTO mail_reservations (id, recipients, subject, body_text, priority) "
    "VALUES ('{id}', 'now@example.org', 's', 't', {priority})"
)


def insert(url: str, priority: int = 10) -> float:
    """Reserve a mail by plain SQL, as any program does; return the time of the commit."""
    with database(url) as connection:
        connection.exec_driver_sql(INSERT.format(id=uuid4(), priority=priority))
    return time.time()


def arrival(sink: Sink) -> float:
    """Wait for the urgent mail; return when the relay took it."""
    return wait_until(
        lambda: next((mail.time for mail in sink.accepted() if "now@example.org" in mail.recipients), None),
        60,
        "the urgent mail",
    )


@pytest.fixture(params=["stack", "sqlite_stack"])
def either(request: pytest.FixtureRequest) -> Stack:
    found: Stack = request.getfixturevalue(request.param)
    return found


def test_a_plain_insert_of_urgent_mail_starts_a_run_and_other_mail_waits_for_the_tick(either, smtp_sink):
    either.worker("-c", "1")
    reserve(either.database_url, 1, priority=9)
    committed = insert(either.database_url)
    assert arrival(smtp_sink) - committed < SOON
    wait_until(lambda: ended(either.database_url), 10, "the run to end")
    (run,) = runs(either.database_url)
    assert (run.trigger, run.outcome, run.sent) == ("urgent", "completed", 2)
    assert either.json("runs")[0]["trigger"] == "urgent"


def test_urgent_mail_overtakes_thousands_that_wait_in_a_run_at_a_slow_relay(stack, smtp_sink):
    smtp_sink.slow = 0.08  # four connections: 50 mails a second
    smtp_sink.restart()
    with database(stack.database_url) as connection:
        connection.exec_driver_sql(
            "INSERT INTO mail_reservations (recipients, subject, body_text) "
            "SELECT 'slow-' || i || '@example.org', 's', 't' FROM generate_series(1, 20000) AS i"
        )
    stack.settings["SCHEDULE"] = 3600
    stack.worker("-B", "-c", "1")
    smtp_sink.wait_for(100, 60)
    committed = insert(stack.database_url)
    assert arrival(smtp_sink) - committed < SOON
    assert len(runs(stack.database_url)) == 1
    assert states(stack.database_url)["pending"] > 15_000


def test_a_pause_holds_urgent_mail_back_until_it_ends(sqlite_stack, smtp_sink):
    assert sqlite_stack.cli("pause").returncode == 0
    insert(sqlite_stack.database_url)
    sqlite_stack.worker("-c", "1")
    assert sqlite_stack.json("status")["pause"] != "none"  # it takes longer than a question
    assert runs(sqlite_stack.database_url) == []
    resumed = time.time()
    assert sqlite_stack.cli("resume").returncode == 0
    assert arrival(smtp_sink) > resumed
    wait_until(lambda: ended(sqlite_stack.database_url), 10, "the run to end")
    assert [run.trigger for run in runs(sqlite_stack.database_url)] == ["urgent"]


def test_an_open_circuit_holds_urgent_mail_back_until_the_relay_may_be_probed(sqlite_stack, smtp_sink):
    engine = connect(sqlite_stack.database_url)
    opened = SqlCircuits(engine).open(f"127.0.0.1:{smtp_sink.port}", "it is away", 4.0)
    engine.dispose()
    sqlite_stack.worker("-c", "1")
    insert(sqlite_stack.database_url)
    assert arrival(smtp_sink) >= opened.open_until.timestamp()
    wait_until(lambda: ended(sqlite_stack.database_url), 10, "the run to end")
    assert [run.outcome for run in runs(sqlite_stack.database_url)] == ["completed"]


def test_with_a_cron_line_mail_is_urgent_if_a_priority_is_set(sqlite_stack, smtp_sink):
    sqlite_stack.settings |= {"SCHEDULE": "0 3 * * *", "URGENT_PRIORITY": 3}
    sqlite_stack.worker("-c", "1")
    committed = insert(sqlite_stack.database_url, 3)
    assert arrival(smtp_sink) - committed < SOON


def test_a_thousand_urgent_mails_and_two_workers_start_few_runs(stack, smtp_sink):
    stack.worker("-c", "1")
    stack.worker("-c", "1")
    began = time.time()
    for batch in range(20):
        reserve(stack.database_url, 50, start=50 * batch, priority=10)
    wait_until(lambda: states(stack.database_url) == {"sent": 1000}, 60, "all urgent mails")
    found = runs(stack.database_url)
    assert {run.trigger for run in found} == {"urgent"}
    assert len(found) <= 2 + (time.time() - began)
    assert len({mail.recipients for mail in smtp_sink.accepted()}) == len(smtp_sink.accepted()) == 1000


def test_urgent_mail_starts_runs_again_when_redis_comes_back(postgres_url, private_redis, smtp_sink, tmp_path):
    with Stack(postgres_url, private_redis.url, smtp_sink.url, tmp_path / "home") as stack:
        worker = stack.worker("-c", "1")
        private_redis.stop()
        insert(stack.database_url)
        worker.wait_for_log("urgent mail starts no run for now: ")
        private_redis.start()
        arrival(smtp_sink)
        worker.wait_for_log("urgent mail starts runs again")
        assert worker.log_text().count("urgent mail starts no run for now: ") == 1
