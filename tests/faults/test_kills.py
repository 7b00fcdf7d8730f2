"""Kill everything under the settings of every day, then count. Each single fault is in ``test_table``."""

from __future__ import annotations

import time
from collections import Counter
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest
from support.backlogs import ended, reserve, runs, states
from support.waiting import wait_until

from mailbatch.domain.run import DEAD_AFTER

if TYPE_CHECKING:
    from support.stack import Stack

INTERVAL = 5
LOCK_TTL, LEASE = 3, 4


@pytest.fixture
def quick(stack: Stack) -> Stack:
    """A stack that recovers within seconds instead of minutes."""
    stack.settings |= {"SCHEDULE": INTERVAL, "LOCK_TTL": LOCK_TTL, "LEASE": LEASE}
    return stack


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
    wait_until(lambda: ended(quick.database_url), DEAD_AFTER + 2 * INTERVAL + 5, "the runs that died to be closed")
    died = [run for run in runs(quick.database_url) if run.outcome == "failed"]
    assert len(died) == kills
    assert sum(to.values()) - count <= sum(run.bound for run in died)
    assert all("process died" in run.error for run in died)
    assert sum(run.in_doubt for run in runs(quick.database_url)) > 0
