"""A task alone, over fakes: it calls its job, tells it of a revoke, and shows how far it is."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery.worker import state
from kombu.exceptions import OperationalError
from support.fake_stores import FakeClock, FakeRuns, FakeSwitch

from mailbatch.batch import tasks
from mailbatch.batch.job import Job
from mailbatch.batch.running import run_in_task
from mailbatch.domain.run import Counts


class FakeTask:
    """What a job sees of its Celery task: a request with an id, and events for Flower."""

    def __init__(self) -> None:
        self.request = SimpleNamespace(id=str(uuid4()), stamps=None)
        self.events: list[tuple[str, str]] = []

    def send_event(self, name: str, *, result: str) -> None:
        self.events.append((name, result))


def job_of(work):
    """Makes a job without lock and Redis, as the composition root would."""
    clock = FakeClock()

    def make(_parts) -> Job:
        return Job(
            name="nightly",
            work=work,
            runs=FakeRuns(clock),
            switch=FakeSwitch(),
            lock=None,
            lock_ttl=30,
            status=None,
            clock=clock,
            new_id=uuid4,
        )

    return make


def test_the_tasks_have_the_names_of_the_contract():
    assert (tasks.send_all.name, tasks.purge.name) == ("send-all", "purge")


def test_a_task_answers_the_report_of_its_job_as_json_types():
    answer = run_in_task(FakeTask(), job_of(lambda run: run.count(Counts(sent=2))), "api")
    assert (answer["outcome"], answer["trigger"], answer["sent"], answer["errors"]) == ("completed", "api", 2, [])


def test_a_broker_that_is_away_costs_the_helpers_and_not_the_run(caplog, monkeypatch):
    def away(**_):
        raise OperationalError("Error 111 connecting to redis:6379. Connection refused.")

    monkeypatch.setattr(tasks.send_lane, "apply_async", away)
    tasks._call_helper(uuid4(), 1)
    assert "no helper can be called for lane 1" in caplog.text


def test_a_trigger_that_is_none_is_refused():
    with pytest.raises(ValueError, match="cat"):
        run_in_task(FakeTask(), job_of(lambda run: None), "cat")


def test_a_revoke_of_the_task_is_the_stop_of_its_run():
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


def test_the_progress_of_a_run_is_an_event_of_its_task():
    task = FakeTask()
    run_in_task(task, job_of(lambda run: None), "manual")
    assert task.events[0] == ("task-started", "0 sent, 0 failed, 0 deferred")
