"""The main job, for real: a worker with -B, PostgreSQL, Redis, an SMTP server; and what must hold whatever happens."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from contextlib import contextmanager
from signal import SIGTERM
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from celery import Celery
from support.backlogs import database, ended, reserve, runs, states
from support.long import LONG
from support.waiting import wait_until

from mailbatch.domain.act import Act
from mailbatch.domain.reservation import Status
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.sink import Sink
    from support.stack import Stack


def once_each(sink: Sink, count: int) -> None:
    """Every mail arrived, and none twice."""
    to = Counter(mail.recipients[0] for mail in sink.accepted())
    assert len(to) == count
    assert set(to.values()) == {1}


@contextmanager
def client(stack: Stack) -> Iterator[Celery]:
    """An application's own Celery app, which knows no more than where the broker is."""
    broker = stack.redis_url.replace("unix://", "redis+socket://")
    options = {"global_keyprefix": "mailbatch:"}
    with Celery("client", broker=broker, set_as_current=False) as app:
        app.conf.update(broker_transport_options=options, task_default_queue="mailbatch")
        yield app


def started(sink: Sink, count: int = 50) -> None:
    sink.wait_for(count, 60)


@pytest.fixture
def far(stack: Stack, smtp_sink: Sink) -> Stack:
    """A stack whose relay is 60 ms away: 270 mails a second at most, so that a run is met while it goes on."""
    smtp_sink.latency = 0.06
    smtp_sink.restart()
    stack.settings |= {"CONNECTIONS": 4, "WINDOW": 4}
    return stack


def test_ten_thousand_due_mails_arrive_once_each_and_the_report_says_so(stack, smtp_sink):
    reserve(stack.database_url, 10_000)
    stack.settings["SCHEDULE"] = 3600
    stack.worker("-B", "-c", "2")
    wait_until(lambda: ended(stack.database_url), 240, "the run to end")
    once_each(smtp_sink, 10_000)
    (run,) = runs(stack.database_url)
    assert (run.outcome, run.trigger, run.sent, run.failed, run.remaining) == ("completed", "beat", 10_000, 0, 0)
    assert states(stack.database_url) == {"sent": 10_000}

    again = stack.json("send-all")
    assert (again["outcome"], again["sent"], again["remaining"]) == ("completed", 0, 0)
    once_each(smtp_sink, 10_000)


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=LONG)])
def test_a_revoke_stops_the_run_between_two_mails_and_the_next_run_sends_the_rest(far, smtp_sink, pool):
    reserve(far.database_url, 1_000)
    far.worker("-c", "2", "-P", pool)
    task = far.call()
    started(smtp_sink)
    with client(far) as app:
        app.control.revoke(task)
        asked = time.monotonic()
    wait_until(lambda: ended(far.database_url), 10, "the run to stop")
    took = time.monotonic() - asked
    (run,) = runs(far.database_url)
    assert run.outcome == "revoked"
    assert 0 < run.sent < 1_000
    assert took < 5  # half a second on a quiet machine; to its end the run would take far longer
    left = states(far.database_url)
    assert left == {"sent": run.sent, "pending": 1_000 - run.sent}

    assert far.json("send-all")["outcome"] == "completed"
    once_each(smtp_sink, 1_000)


def test_sigterm_lets_the_worker_exit_within_seconds_and_the_next_run_sends_the_rest(far, smtp_sink):
    reserve(far.database_url, 1_000)
    worker = far.worker("-B", "-c", "2")
    started(smtp_sink)
    asked = time.monotonic()
    worker.signal(SIGTERM)
    assert worker.wait_exit(15) == 0
    assert time.monotonic() - asked < 3 * 5
    (run,) = runs(far.database_url)
    assert (run.outcome, states(far.database_url)) == (
        "shutdown",
        {"sent": run.sent, "pending": 1_000 - run.sent},
    )

    far.worker("-c", "2")
    assert far.json("send-all")["outcome"] == "completed"
    once_each(smtp_sink, 1_000)


def test_what_was_answered_cancelled_is_never_sent(far, smtp_sink):
    reserve(far.database_url, 1_000)
    with database(far.database_url) as connection:
        columns = (mail_reservations.c.id, mail_reservations.c.recipients)
        everyone = {row.id: row.recipients for row in connection.execute(sa.select(*columns))}
    chosen = random.Random(8).sample(sorted(everyone), 300)  # noqa: S311 - no secret
    far.worker("-c", "2")
    far.call()
    started(smtp_sink)
    engine = connect(far.database_url)
    interventions = SqlInterventions(engine)
    answers = [answer for one in chosen for answer in interventions.apply(Act.CANCEL, [one], {Status.PENDING})]
    wait_until(lambda: ended(far.database_url), 60, "the run to end")
    engine.dispose()

    cancelled = {answer.reservation_id for answer in answers if answer.changed}
    assert cancelled, "every cancel came too late: the test says nothing"
    sent_to = Counter(mail.recipients[0] for mail in smtp_sink.accepted())
    names = {one: everyone[one].split("<")[1].rstrip(">") for one in everyone}
    assert not {names[one] for one in cancelled} & set(sent_to)
    assert states(far.database_url) == {"sent": 1_000 - len(cancelled), "cancelled": len(cancelled)}
    assert set(sent_to.values()) == {1}


def test_of_twenty_calls_at_once_one_runs_and_nineteen_are_skipped(far, smtp_sink):
    reserve(far.database_url, 1_000)
    worker = far.worker("-c", "6")
    with client(far) as app:
        for _ in range(20):
            app.send_task("send-all", ignore_result=True)
    wait_until(lambda: worker.log_text().count("succeeded in") >= 20, 90, "twenty calls to be answered")
    log = worker.log_text()
    assert log.count("job is already running: send-all") == 19
    assert log.count("'outcome': 'skipped'") == 19
    (run,) = runs(far.database_url)
    assert (run.outcome, run.sent) == ("completed", 1_000)
    once_each(smtp_sink, 1_000)


def test_two_runs_forced_at_once_without_a_lock_send_each_mail_once(far, smtp_sink):
    reserve(far.database_url, 700)
    done = []

    def run() -> None:
        done.append(far.cli("send-all", "--here", "--no-lock", "--json", timeout=120))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reports = [json.loads(one.stdout) for one in done]
    assert sum(report["sent"] for report in reports) == 700
    once_each(smtp_sink, 700)
