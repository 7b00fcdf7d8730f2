"""The status of a job, read from fakes."""

from __future__ import annotations

from typing import Any

import pytest
from support.fake_blocks import FakeBlocks
from support.fake_stores import FakeCircuits, FakePauseStore, FakeRuns
from support.fake_tables import FakeHealthQuery, FakeReports, FakeTables
from support.fakes import FakeStatusBoard
from support.rows import run_row

from mailbatch.application.looking.inquire import ShowJobStatus
from mailbatch.application.looking.watch import Watch
from mailbatch.domain.errors import LockUnavailable
from mailbatch.domain.health import Patience

JOB = "send-all"


class Lock:
    """The port ``LockObserver``: a lock that is free, in a Redis that may be away."""

    key = "job:lock:send-all"

    def __init__(self, *, away: bool) -> None:
        self._away = away

    def peek(self) -> float | None:
        raise NotImplementedError

    def holder(self) -> None:
        if self._away:
            raise LockUnavailable("Redis is away")


class NotedBoard(FakeStatusBoard):
    """Notes whether it was asked."""

    asked = False

    def get(self, job: str) -> dict[str, Any] | None:
        self.asked = True
        return super().get(job)


@pytest.mark.parametrize("away", [False, True])
def test_a_redis_that_did_not_answer_is_not_asked_again_for_the_progress_of_a_run(away):
    tables, board = FakeTables(), NotedBoard()
    run = run_row(tables.now)
    tables.runs[run.run_id] = run
    watch = Watch(
        health_query=FakeHealthQuery(tables),
        runs=FakeRuns(tables),
        pause_store=FakePauseStore(tables),
        lock_observer=Lock(away=away),
        circuits=FakeCircuits(tables),
        relay="relay.example:25",
        patience=lambda: Patience(quiet=600, dead_after=10, lock_ttl=30, lease=60, unanswered=25, stuck=300),
    )
    status = ShowJobStatus(reports=FakeReports(tables), board=board, watch=watch, blocks=FakeBlocks(tables))(JOB)
    assert status.snapshot.running
    assert status.progress is not None
    assert board.asked is not away
