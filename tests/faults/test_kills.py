"""Kill and cut, then count: nothing is lost, and what is doubled stays within the bound."""

from __future__ import annotations

import os
import time
from collections import Counter
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest
from support.backlogs import ended, reserve, runs, states
from support.waiting import wait_until

from mailbatch.batch.job import DEAD_AFTER
from mailbatch.domain.run import crash_bound

if TYPE_CHECKING:
    from support.sink import Sink
    from support.stack import Stack

INTERVAL = 5
LOCK_TTL, LEASE = 3, 4


def once_each(sink: Sink, count: int) -> None:
    """Every mail arrived, and none twice."""
    to = Counter(mail.recipients[0] for mail in sink.accepted())
    assert len(to) == count
    assert set(to.values()) == {1}


@pytest.fixture
def quick(stack: Stack) -> Stack:
    """A stack that recovers within seconds instead of minutes."""
    stack.settings |= {"SCHEDULE": INTERVAL, "LOCK_TTL": LOCK_TTL, "LEASE": LEASE}
    return stack


def started(sink: Sink, count: int = 50) -> None:
    sink.wait_for(count, 60)


def test_kill_9_of_everything_in_mid_run_loses_nothing_and_doubles_at_most_the_bound(quick, smtp_sink):
    count, kills = 6_000, 2
    reserve(quick.database_url, count)
    worker = quick.worker("-B", "-c", "2")
    for kill in range(1, kills + 1):
        already = len(smtp_sink.accepted())
        smtp_sink.wait_for(already + 300, LOCK_TTL + LEASE + 3 * INTERVAL + 30)
        worker.kill_group(SIGKILL)
        killed = time.monotonic()
        at_death = len(smtp_sink.accepted())
        worker = quick.worker("-B", "-c", "2")
        smtp_sink.wait_for(at_death + 50, 60)
        assert time.monotonic() - killed < LOCK_TTL + LEASE + INTERVAL + 10, f"kill {kill}"
    wait_until(lambda: states(quick.database_url) == {"sent": count}, 90, "everything to be sent")

    to = Counter(mail.recipients[0] for mail in smtp_sink.accepted())
    assert len(to) == count
    assert sum(to.values()) - count <= kills * crash_bound(1, 4, 32)
    wait_until(lambda: ended(quick.database_url), DEAD_AFTER + 2 * INTERVAL + 5, "the runs that died to be closed")
    died = [run for run in runs(quick.database_url) if run.outcome == "failed"]
    assert len(died) == kills
    assert all("process died" in run.error for run in died)
    assert sum(run.in_doubt for run in runs(quick.database_url)) > 0


def test_kill_9_of_the_pool_child_alone_is_survived_by_the_worker(quick, smtp_sink):
    count = 3_000
    reserve(quick.database_url, count)
    worker = quick.worker("-B", "-c", "2")
    started(smtp_sink, 200)
    (run,) = runs(quick.database_url)
    os.kill(run.pid, SIGKILL)
    wait_until(lambda: states(quick.database_url) == {"sent": count}, 60, "everything to be sent")
    assert worker.running
    to = Counter(mail.recipients[0] for mail in smtp_sink.accepted())
    assert len(to) == count
    assert sum(to.values()) - count <= crash_bound(1, 4, 32)


def test_redis_away_for_ten_seconds_costs_no_mail(quick, smtp_sink, private_redis):
    count = 8_000
    quick.redis_url = private_redis.url
    reserve(quick.database_url, count)
    worker = quick.worker("-B", "-c", "2")
    started(smtp_sink, 200)
    private_redis.stop()
    gone = time.monotonic()
    wait_until(lambda: time.monotonic() - gone > 10, 15, "ten seconds without Redis")
    private_redis.start()
    wait_until(lambda: states(quick.database_url) == {"sent": count}, 90, "later runs to send the rest")
    once_each(smtp_sink, count)
    assert worker.running
    assert {run.outcome for run in runs(quick.database_url)} <= {"lock_lost", "completed", "failed"}
