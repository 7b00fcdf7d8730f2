"""Beat in real processes: many beats and one tick, deaths, pauses, outages of broker and database."""

from __future__ import annotations

import re
import signal
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import psutil
import pytest
import sqlalchemy as sa
from support.stack import Stack
from support.waiting import wait_until

from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.tables import batch_schedule
from mailbatch.infrastructure.db.types import seconds_since

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.postgres import PostgresServer
    from support.processes import ManagedProcess

    from mailbatch.infrastructure.redis.embedded import EmbeddedRedis

TICK = re.compile(r"(\S+) INFO mailbatch\.batch\.scheduler: tick: send-all")


@pytest.fixture
def quick(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    """A stack that ticks each second, on each kind of database."""
    with Stack(database_url, redis_url, "smtp://localhost:1", tmp_path / "stack", {"SCHEDULE": 1}) as stack:
        yield stack


def ticks(*processes: ManagedProcess, since: dict[int, int] | None = None) -> list[datetime]:
    logs = (process.log_text((since or {}).get(process.pid, 0)) for process in processes)
    return sorted(datetime.fromisoformat(time) for log in logs for time in TICK.findall(log))


def beat_of(worker: ManagedProcess) -> psutil.Process:
    return psutil.Process(int(worker.wait_for_log(r"the embedded beat is process (\d+)")[1]))


def set_pause(stack: Stack, state: str) -> None:
    engine = connect(stack.database_url)
    with engine.begin() as connection:
        connection.execute(sa.update(batch_schedule).values(paused=state))
    engine.dispose()


def overdue(stack: Stack) -> float:
    """Seconds since the next tick should have been."""
    engine = connect(stack.database_url)
    with engine.begin() as connection:
        seconds = connection.execute(sa.select(seconds_since(batch_schedule.c.next_tick_at))).scalar_one()
    engine.dispose()
    return seconds


def test_two_workers_with_beats_give_one_tick_a_slot(quick):
    workers = [quick.worker("-B", "-c", "1"), quick.worker("-B", "-c", "1")]
    wait_until(lambda: len(ticks(*workers)) >= 7, 30, "seven ticks")
    found = ticks(*workers)[2:]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(found)]
    # No tick is a second one of its slot, and none is left out.
    assert min(gaps) > 0.5
    assert max(gaps) < 1.5 + 1
    assert (found[-1] - found[0]).total_seconds() == pytest.approx(len(gaps), abs=0.5)


def test_beat_and_worker_apart_do_the_same(quick):
    beat = quick.beat()
    worker = quick.worker()
    worker.wait_for_log(r"job finished")
    assert ticks(worker) == []
    assert ticks(beat)


def test_a_beat_that_was_killed_ticks_again_in_two_seconds(quick):
    worker = quick.worker("-B")
    beat = beat_of(worker)
    wait_until(lambda: ticks(worker), 10, "a tick")
    mark = worker.mark()
    beat.kill()
    worker.wait_for_log("the embedded beat died .* starting another", 2 * 3, since=mark)
    wait_until(lambda: ticks(worker, since={worker.pid: mark}), 10, "a tick of the new one")
    worker.signal(signal.SIGTERM)
    assert worker.wait_exit() == 0
    assert worker.members() == []


def test_a_beat_whose_worker_was_killed_ends_with_it(quick):
    worker = quick.worker("-B")
    beat = beat_of(worker)
    worker.signal(signal.SIGKILL)
    wait_until(lambda: not beat.is_running() or beat.status() == psutil.STATUS_ZOMBIE, 5, "the beat ends")
    wait_until(lambda: worker.members() == [], 10, "nothing is left")


def test_a_pause_outlives_a_restart_and_a_resume_fires_at_once(quick):
    beat = quick.beat()
    wait_until(lambda: ticks(beat), 10, "a tick")
    set_pause(quick, "ticks")
    beat.signal(signal.SIGTERM)
    beat.wait_exit()
    mark = beat.mark()
    beat.start()
    beat.wait_for_log("beat: Starting", since=mark)
    wait_until(lambda: overdue(quick) > 3, 10, "three slots go by")
    assert ticks(beat, since={beat.pid: mark}) == []
    set_pause(quick, "none")
    wait_until(lambda: ticks(beat, since={beat.pid: mark}), 1 + 2, "a tick after the resume")


def test_a_tick_that_the_broker_did_not_take_comes_when_it_is_back(
    sqlite_url: str, private_redis: EmbeddedRedis, tmp_path: Path
):
    with Stack(sqlite_url, private_redis.url, "smtp://localhost:1", tmp_path / "stack", {"SCHEDULE": 1}) as stack:
        beat = stack.beat()
        wait_until(lambda: ticks(beat), 10, "a tick")
        private_redis.kill()
        mark = beat.mark()
        beat.wait_for_log("tick send-all was not taken by the broker", since=mark)
        private_redis.start()
        mark = beat.mark()
        wait_until(lambda: len(ticks(beat, since={beat.pid: mark})) > 2, 5 + 2 + 5, "ticks again")
        assert "celery.backends" not in beat.log_text()
        assert "Traceback" not in beat.log_text()


def test_an_outage_of_the_database_costs_a_line_a_try_and_both_go_on(
    private_postgres: PostgresServer, redis_url: str, tmp_path: Path
):
    from mailbatch.infrastructure.db.migrate import upgrade

    url = private_postgres.url(private_postgres.create_database())
    upgrade(url)
    with Stack(url, redis_url, "smtp://localhost:1", tmp_path / "stack", {"SCHEDULE": 1}) as stack:
        private_postgres.stop()
        worker = stack.worker("-B")
        worker.wait_for_log("trying again, runs fail until it answers")
        worker.wait_for_log("no ticks: .* trying again in")
        private_postgres.start()
        worker.wait_for_log("the database answers; ticking again", 30)
        worker.wait_for_log("job finished", 30)
        assert "Traceback" not in worker.log_text()
