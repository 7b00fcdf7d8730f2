"""A task alone, over fakes: it calls its job, stops it on a revoke, and shows its progress."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from celery.app.task import Context
from celery.worker import state
from kombu.exceptions import OperationalError
from support.fake_stores import FakePauseStore, FakeRuns
from support.fake_tables import FakeTables
from support.waiting import wait_until

from mailbatch.batch import tasks
from mailbatch.batch.app import HEADER
from mailbatch.batch.job import Job
from mailbatch.batch.running import run_in_task
from mailbatch.bootstrap import Parts
from mailbatch.domain.database import DatabaseIdentity
from mailbatch.domain.errors import CallRefused
from mailbatch.domain.run import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeTask:
    """A Celery task as its job sees it: a request with an id, and the app's events for Flower.

    As in Celery, the request is set in the thread that runs the task, and empty in every other thread.
    """

    def __init__(self, **headers: str) -> None:
        self._request = Context(id=str(uuid4()), hostname="worker@here", **headers)
        self._thread = threading.current_thread()
        self.events: list[tuple[str, str, str]] = []
        self.app = SimpleNamespace(events=SimpleNamespace(default_dispatcher=self._dispatcher))

    @property
    def request(self) -> Context:
        return self._request if threading.current_thread() is self._thread else Context()

    @contextmanager
    def _dispatcher(self, hostname: str) -> Iterator[FakeTask]:
        assert hostname == "worker@here"
        yield self

    def send(self, name: str, *, uuid: str, result: str, retry: bool) -> None:
        assert not retry
        self.events.append((name, uuid, result))


def job_of(work):
    """Return a function that makes a job without lock and Redis, as the composition root does."""
    tables = FakeTables()

    def make(_parts) -> Job:
        return Job(
            name="nightly",
            work=work,
            runs=FakeRuns(tables),
            pause_store=FakePauseStore(tables),
            lock=None,
            lock_ttl=30,
            status=None,
            clock=tables.clock,
            new_id=uuid4,
        )

    return make


def test_the_tasks_have_the_names_of_the_contract():
    assert (tasks.send_all.name, tasks.purge.name) == ("send-all", "purge")


def test_a_task_returns_the_report_of_its_job_as_json_types():
    answer = run_in_task(FakeTask(), job_of(lambda run: run.count(Counts(sent=2))), "api")
    assert (answer["outcome"], answer["trigger"], answer["sent"], answer["errors"]) == ("completed", "api", 2, [])


def test_without_a_broker_a_run_goes_on_without_helpers(caplog, monkeypatch):
    def away(**_):
        raise OperationalError("Error 111 connecting to redis:6379. Connection refused.")

    monkeypatch.setattr(tasks.send_lane, "apply_async", away)
    tasks._call_helper(uuid4(), 1)
    assert "no helper can be called for lane 1" in caplog.text


def test_an_unknown_trigger_is_refused():
    for trigger in ("cat", "", None, 7, ["beat"], {"beat": 1}, "x" * 100_000):
        with pytest.raises(CallRefused, match="trigger must be one of") as refused:
            run_in_task(FakeTask(), job_of(lambda run: None), trigger)
        assert len(str(refused.value)) < 200


def test_a_call_for_another_database_is_refused_in_a_line_that_names_both(monkeypatch):
    asked = DatabaseIdentity(kind="sqlite", system=1, number=2, name="/srv/staging.db")
    ours = DatabaseIdentity(kind="sqlite", system=1, number=3, name="/srv/shop.db")
    monkeypatch.setattr(Parts, "identify", lambda _: ours)
    task, ran = FakeTask(**{HEADER: asked.encode()}), []
    with pytest.raises(CallRefused) as refused:
        run_in_task(task, job_of(ran.append), "beat")
    assert str(asked) in str(refused.value)
    assert str(ours) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not ran


@pytest.mark.parametrize("header", ["", "junk", "{}"])
def test_a_call_with_an_unreadable_header_is_taken(header):
    assert run_in_task(FakeTask(**{HEADER: header}), job_of(lambda run: None), "beat")["outcome"] == "completed"


def test_a_revoke_of_the_task_stops_its_run():
    task, done = FakeTask(), []

    def work(run):
        while run.stop.reason() is None and len(done) < 9:
            done.append("item")
            if len(done) == 3:
                state.revoked.add(task.request.id)

    try:
        answer = run_in_task(task, job_of(work), "manual")
    finally:
        state.revoked.discard(task.request.id)
    assert (answer["outcome"], len(done)) == ("revoked", 3)
    # Flower shows the beginning, beside the state SUCCESS.
    assert next(iter(answer)) == "outcome"


def test_the_progress_of_a_run_is_an_event_of_its_task():
    task = FakeTask()

    def work(run):
        run.count(Counts(sent=2))
        wait_until(lambda: len(task.events) > 1, 10, "the second progress, from a thread beside the task")

    run_in_task(task, job_of(work), "manual")
    assert task.events[0] == ("task-started", task.request.id, "0 sent, 0 failed, 0 deferred")
    assert task.events[1] == ("task-started", task.request.id, "2 sent, 0 failed, 0 deferred")
