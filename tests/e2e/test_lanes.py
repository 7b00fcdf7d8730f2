"""Several lanes in one run: they share the backlog, and leave, die or stop without harm."""

from __future__ import annotations

import os
from collections import Counter
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.backlogs import database, ended, reserve, runs, states
from support.waiting import wait_until

from mailbatch.domain.run import crash_bound
from mailbatch.infrastructure.db.tables import batch_lanes
from mailbatch.infrastructure.redis.client import connect

if TYPE_CHECKING:
    from support.stack import Stack


def lanes(url: str) -> list[Any]:
    with database(url) as connection:
        return list(connection.execute(sa.select(batch_lanes).order_by(batch_lanes.c.lane)))


@pytest.fixture
def laned(stack: Stack) -> Stack:
    stack.settings |= {"LANES": 2, "LEASE": 4, "LOCK_TTL": 3, "WINDOW": 8}
    return stack


def test_two_lanes_send_each_mail_once_and_their_counts_add_up(laned, smtp_sink):
    reserve(laned.database_url, 4_000)
    reserve(laned.database_url, 50, start=4_000, recipients="refuse-me@example.org")
    laned.worker("-c", "3")
    report = laned.json("send-all")
    assert (report["outcome"], report["sent"], report["failed"]) == ("completed", 4_000, 50)
    assert report["bound"] >= crash_bound(2, 4, 8)
    assert len(report["errors"]) == 50
    assert Counter(mail.recipients[0] for mail in smtp_sink.accepted()).most_common(1)[0][1] == 1
    (helper,) = lanes(laned.database_url)
    assert 0 < helper.sent < 4_000
    (run,) = runs(laned.database_url)
    assert (run.sent, run.failed, run.bound) == (4_000, 50, report["bound"])


def test_without_a_free_worker_lane_0_does_all_the_work(laned, smtp_sink):
    reserve(laned.database_url, 500)
    laned.worker("-c", "1")
    assert laned.json("send-all")["sent"] == 500
    assert lanes(laned.database_url) == []


def test_lanes_together_have_no_more_connections_than_the_relay_allows(laned, smtp_sink):
    laned.settings |= {"RELAY_CONNECTIONS": 3}
    reserve(laned.database_url, 3_000)
    laned.worker("-c", "3")
    assert laned.json("send-all")["sent"] == 3_000
    assert len(lanes(laned.database_url)) == 1
    assert smtp_sink.most_connections() == 3
    with connect(laned.redis_url) as client:
        assert client.zcard("mailbatch:relay:connections:" + smtp_sink.url.removeprefix("smtp://")) == 0


def test_a_revoke_of_send_all_stops_every_lane(laned, smtp_sink):
    # So slow that the run still goes on when the revoke comes, however busy the machine is.
    smtp_sink.latency = 0.1
    smtp_sink.restart()
    reserve(laned.database_url, 6_000)
    laned.worker("-c", "3")
    task = laned.call()
    wait_until(lambda: [lane for lane in lanes(laned.database_url) if lane.sent], 60, "the helper to send")
    laned.celery("control", "revoke", task)
    wait_until(lambda: ended(laned.database_url), 10, "the run to end")
    (run,) = runs(laned.database_url)
    assert run.outcome == "revoked"
    assert states(laned.database_url) == {"sent": run.sent, "pending": 6_000 - run.sent}
    assert len(smtp_sink.accepted()) == run.sent


def test_a_helper_that_is_killed_costs_its_own_groups_only(laned, smtp_sink):
    count = 8_000
    reserve(laned.database_url, count)
    laned.worker("-c", "3")
    laned.call()
    (helper,) = wait_until(lambda: [lane for lane in lanes(laned.database_url) if lane.sent], 60, "the helper to send")
    os.kill(helper.pid, SIGKILL)
    wait_until(lambda: ended(laned.database_url), 90, "the run to end")
    (run,) = runs(laned.database_url)
    assert run.outcome == "completed"
    (dead,) = lanes(laned.database_url)
    assert dead.left_at is None

    wait_until(lambda: laned.json("send-all")["remaining"] == 0, 30, "the rest to be sent")
    assert states(laned.database_url) == {"sent": count}
    to = Counter(mail.recipients[0] for mail in smtp_sink.accepted())
    assert len(to) == count
    assert sum(to.values()) - count <= run.bound
    assert sum(run.sent for run in runs(laned.database_url)) == count


def test_an_empty_tick_calls_no_helper(laned, redis_url):
    worker = laned.worker("-c", "2")
    assert laned.json("send-all")["outcome"] == "completed"
    reserve(laned.database_url, 1)
    assert laned.json("send-all")["sent"] == 1
    worker.wait_for_log("sent 1")
    assert "send-lane[" not in worker.log_text()
