"""A running task stops between two items: by a revoke and by every way to end a worker, in real pools."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import support
from celery import Celery
from support.stack import Stack
from support.waiting import wait_until

from mailbatch.batch.appconfig import redis_url as celery_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.processes import ManagedProcess

PROMISED = 0.5 * 6
"""Seconds from the worker's knowing to the task's stop, with a margin for a machine that runs other tests as well."""
SOFT = 30.0
"""Seconds of a soft shutdown, in celeryconfig.py; none may take as long where the tasks end sooner."""
POOLS = ["prefork", "threads"]


@contextlib.contextmanager
def client_of(redis_url: str) -> Iterator[Celery]:
    """An application somewhere else that calls and controls by the broker alone."""
    url = celery_url(redis_url)
    app = Celery("client", broker=url, backend=url, set_as_current=False)
    prefix = {"global_keyprefix": "mailbatch:"}
    app.conf.update(
        broker_transport_options=prefix, result_backend_transport_options=prefix, task_default_queue="mailbatch"
    )
    yield app
    app.close()


@contextlib.contextmanager
def stack_of_its_own(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    """A stack whose folder holds a batch of its own."""
    with Stack(database_url, redis_url, "smtp://localhost:1", tmp_path / "stack") as stack:
        stack.folder.mkdir()
        shutil.copy(Path(support.__path__[0]) / "tinybatch.py", stack.folder)
        (stack.folder / "celeryconfig.py").write_text('imports = ("tinybatch",)\n')
        yield stack


@pytest.fixture
def client(redis_url: str) -> Iterator[Celery]:
    with client_of(redis_url) as app:
        yield app


@pytest.fixture
def own(sqlite_url: str, redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    with stack_of_its_own(sqlite_url, redis_url, tmp_path) as stack:
        yield stack


class Tiny:
    """The tiny batch, called and running."""

    def __init__(
        self, client: Celery, folder: Path, task: str = "tiny", item: float | None = None, **options: object
    ) -> None:
        self.journal = folder / "journal"
        self.journal.touch()
        kwargs = {"journal": str(self.journal)} | ({"item": item} if item else {})
        self.result = client.send_task(task, kwargs=kwargs, **options)
        wait_until(lambda: "begin" in self.lines, 20, "the tiny batch runs")

    @property
    def lines(self) -> list[str]:
        return self.journal.read_text().splitlines()

    def stopped(self, timeout: float = 10) -> tuple[str, float]:
        """The reason of the stop and its time; an item that was begun was ended."""
        wait_until(lambda: any(line.startswith("stopped") for line in self.lines), timeout, "the tiny batch stops")
        assert self.lines.count("begin") == self.lines.count("end")
        _, reason, at = self.lines[-1].split()
        return reason, float(at)


def pool_worker(own: Stack, pool: str, *args: str) -> ManagedProcess:
    return own.worker("--pool", pool, "--concurrency", "2", *args)


def ended_without_a_wait(worker: ManagedProcess) -> int:
    """The exit status, which came before any of Celery's waits of ``SOFT`` seconds was over."""
    began = time.monotonic()
    status = worker.wait_exit()
    assert time.monotonic() - began < 0.8 * SOFT
    return status


@pytest.mark.parametrize("pool", POOLS)
def test_a_revoke_stops_a_running_task_within_half_a_second(own, client, pool):
    pool_worker(own, pool)
    tiny = Tiny(client, own.folder)
    told = time.monotonic()
    tiny.result.revoke()
    reason, at = tiny.stopped()
    assert reason == "revoked"
    assert at - told < PROMISED
    assert tiny.result.get(timeout=10)["outcome"] == "revoked"


def test_a_revoke_stops_only_the_revoked_task(own, client):
    pool_worker(own, "prefork")
    tiny = Tiny(client, own.folder)
    (own.folder / "other").mkdir()
    other = Tiny(client, own.folder / "other")
    tiny.result.revoke()
    tiny.stopped()
    done = len(other.lines)
    wait_until(lambda: len(other.lines) > done + 10, 5, "the other goes on")


@pytest.mark.parametrize("pool", POOLS)
def test_a_stamped_revoke_stops_it_too(own, client, pool):
    pool_worker(own, pool)
    tiny = Tiny(client, own.folder, headers={"stamps": {"campaign": "spring"}, "stamped_headers": ["campaign"]})
    told = time.monotonic()
    client.control.revoke_by_stamped_headers({"campaign": "spring"})
    reason, at = tiny.stopped()
    assert reason == "revoked"
    assert at - told < PROMISED


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("way", ["SIGTERM", "SIGINT to the group", "control shutdown", "SIGTERM to the group"])
def test_every_way_to_end_a_worker_stops_the_task_between_two_items(own, client, pool, way):
    worker = pool_worker(own, pool, "-B")
    tiny = Tiny(client, own.folder)
    told = time.monotonic()
    match way:
        case "SIGTERM":
            worker.signal(signal.SIGTERM)
        case "SIGINT to the group":
            worker.kill_group(signal.SIGINT)
        case "SIGTERM to the group":
            worker.kill_group(signal.SIGTERM)
        case "control shutdown":
            client.control.shutdown()
    reason, at = tiny.stopped()
    assert reason == "shutdown"
    assert at - told < PROMISED + 0.6
    ended_without_a_wait(worker)
    assert worker.members() == []
    assert tiny.result.get(timeout=10)["outcome"] == "shutdown"


def test_sigterm_lets_the_worker_exit_with_zero(own, client):
    worker = pool_worker(own, "prefork", "-B")
    Tiny(client, own.folder)
    worker.signal(signal.SIGTERM)
    assert ended_without_a_wait(worker) == 0


def test_sigquit_is_known_before_the_soft_shutdown_has_waited(own, client):
    worker = pool_worker(own, "prefork")
    tiny = Tiny(client, own.folder)
    told = time.monotonic()
    worker.signal(signal.SIGQUIT)
    reason, at = tiny.stopped()
    assert reason == "shutdown"
    assert at - told < PROMISED
    ended_without_a_wait(worker)


def test_a_second_ctrl_c_waits_only_for_the_current_item(own, client):
    worker = pool_worker(own, "prefork", "-B")
    tiny = Tiny(client, own.folder, item=2)
    worker.kill_group(signal.SIGINT)
    # Celery takes the second signal for another only once it has said this, a line after "Hitting Ctrl+C again …".
    worker.wait_for_log(r"Warm shutdown \(MainProcess\)")
    worker.kill_group(signal.SIGINT)
    assert tiny.stopped()[0] == "shutdown"
    ended_without_a_wait(worker)
    assert worker.members() == []
    assert tiny.result.get(timeout=10)["outcome"] == "shutdown"


def test_sigterm_to_the_group_under_remap_stops_it_between_two_items(own, client, monkeypatch):
    monkeypatch.setenv("REMAP_SIGTERM", "SIGQUIT")
    worker = pool_worker(own, "prefork")
    tiny = Tiny(client, own.folder)
    worker.kill_group(signal.SIGTERM)
    assert tiny.stopped()[0] == "shutdown"


def test_terminate_is_as_soft_as_a_revoke_and_the_child_works_on(own, client):
    worker = pool_worker(own, "prefork")
    tiny = Tiny(client, own.folder)
    before = {child.pid for child in worker.children()}
    tiny.result.revoke(terminate=True)
    assert tiny.stopped()[0] == "revoked"
    # A result of its own each time: one keeps the first end that it sees, which may be the worker's REVOKED.
    wait_until(lambda: client.AsyncResult(tiny.result.id).state == "SUCCESS", 5, "its own report stays")
    again = own.folder / "again"
    again.mkdir()
    for _ in range(4):
        client.send_task("hello", kwargs={"journal": str(again / "journal")})
    wait_until(
        lambda: (again / "journal").exists() and (again / "journal").read_text().count("hello") == 4, 10, "hello"
    )
    assert {child.pid for child in worker.children()} == before


def test_a_task_that_never_calls_stop_reason_is_terminated(own, client):
    pool_worker(own, "prefork")
    deaf = Tiny(client, own.folder, "deaf")
    deaf.result.revoke(terminate=True)
    wait_until(lambda: deaf.result.state == "REVOKED", 10, "Celery says it is revoked")
    assert deaf.lines == ["begin"]


def test_a_sigterm_to_the_child_alone_stops_its_task_between_two_items(own, client):
    pool_worker(own, "prefork")
    tiny = Tiny(client, own.folder)
    os.kill(busy_child(client), signal.SIGTERM)
    assert tiny.stopped()[0] == "shutdown"


def test_a_second_sigterm_ends_a_child_at_once(own, client):
    pool_worker(own, "prefork")
    tiny = Tiny(client, own.folder, item=60)
    child = psutil.Process(busy_child(client))

    def ended() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
        return not child.is_running()

    wait_until(ended, 10, "the child ends", every=0.2)
    assert tiny.lines == ["begin"]


def busy_child(client: Celery) -> int:
    """The pool child that runs a task now."""
    active = client.control.inspect(timeout=5, limit=1).active() or {}
    [pid] = [task["worker_pid"] for tasks in active.values() for task in tasks]
    return int(pid)


def test_the_tasks_of_a_killed_worker_end_and_the_next_worker_removes_its_board(own, client):
    worker = pool_worker(own, "prefork")
    Tiny(client, own.folder)
    [board] = (own.folder / "tmp").glob("mailbatch-board-*")
    worker.signal(signal.SIGKILL)
    worker.wait_exit()
    wait_until(lambda: worker.members() == [], 10, "its children end")
    assert board.exists()
    second = pool_worker(own, "prefork")
    assert not board.exists()
    second.signal(signal.SIGTERM)
    assert second.wait_exit() == 0
    assert list((own.folder / "tmp").glob("mailbatch-board-*")) == []


def test_a_living_workers_board_is_kept_and_is_made_again_when_it_is_removed(own, client):
    pool_worker(own, "prefork")
    pool_worker(own, "prefork")
    boards = list((own.folder / "tmp").glob("mailbatch-board-*"))
    assert len(boards) == 2
    for board in boards:
        shutil.rmtree(board)
    wait_until(lambda: all(board.exists() for board in boards), 5, "the boards come back")
    tiny = Tiny(client, own.folder)
    tiny.result.revoke()
    assert tiny.stopped()[0] == "revoked"


def test_the_solo_pool_says_at_the_start_that_it_cannot_be_stopped(own):
    own.worker("--pool", "solo").wait_for_log("WARNING .*solo pool.*no revoke reaches")


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_outlives_its_redis_and_can_still_stop_a_task_that_ran_on(sqlite_url, private_redis, tmp_path, pool):
    with stack_of_its_own(sqlite_url, private_redis.url, tmp_path) as own, client_of(private_redis.url) as client:
        worker = pool_worker(own, pool, "-B")
        tiny = Tiny(client, own.folder)
        private_redis.kill()
        worker.wait_for_log("Trying again in 4")
        private_redis.start()
        mark = worker.mark()
        worker.wait_for_log("Connected to", since=mark)
        wait_until(lambda: client.control.ping(timeout=1), 20, "the worker listens again")
        assert not tiny.lines[-1].startswith("stopped")
        tiny.result.revoke()
        assert tiny.stopped()[0] == "revoked"
        worker.signal(signal.SIGTERM)
        assert worker.wait_exit() == 0
