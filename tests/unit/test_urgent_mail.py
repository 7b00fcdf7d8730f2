"""When urgent mail starts a run, and what holds it back: the decision, and the worker that calls the run."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from uuid import uuid4

import pytest
from support.fake_backlog import FakeBacklog
from support.fake_stores import FakeCircuits, FakePauseStore, FakeRuns
from support.fakes import FakeLock, FakeRedisServer

from mailbatch.application.sending.urgent_mail import REST, REST_IN_VAIN, UrgentMail
from mailbatch.batch import fork_guard
from mailbatch.batch.urgent import CALL_EXPIRES, UrgentCaller, UrgentStep, UrgentWatch
from mailbatch.domain.errors import LockUnavailable, StoreError
from mailbatch.domain.run import DEAD_AFTER, Counts, Pause, RunOutcome, RunReport, Trigger


class Place:
    """A database with urgent mail in it, and what a worker does about it."""

    def __init__(self) -> None:
        self.backlog = FakeBacklog()
        tables = self.backlog.tables
        self.runs, self.circuits = FakeRuns(tables), FakeCircuits(tables)
        self.pauses = FakePauseStore(tables)
        self.redis = FakeRedisServer(now=self.backlog.clock.monotonic)
        self.calls = 0
        self.mail = UrgentMail(
            backlog=self.backlog,
            pause_store=self.pauses,
            runs=self.runs,
            circuits=self.circuits,
            relays=("one:25", "two:25"),
            priority=10,
        )
        self.caller = self.worker()

    def worker(self) -> UrgentCaller:
        return UrgentCaller(self.mail, FakeLock(self.redis, "urgent", 30), self._call)

    def calls_a_run(self) -> bool:
        before = self.calls
        self.caller.look()
        return self.calls > before

    def run(self, outcome: RunOutcome | None, trigger: Trigger = Trigger.URGENT, claimed: int = 1) -> None:
        """A run of send-all begins and, with ``outcome``, ends."""
        run_id = uuid4()
        self.wait(0.01)
        self.runs.open(run_id, "send-all", trigger, 8)
        self.runs.rows[run_id] = replace(self.runs.rows[run_id], claimed=claimed)
        if outcome is not None:
            counts = Counts(sent=claimed)
            self.runs.close("send-all", RunReport(run_id=run_id, trigger=trigger, outcome=outcome, counts=counts), None)

    def wait(self, seconds: float) -> None:
        self.backlog.clock.sleep(seconds)

    def _call(self) -> None:
        self.calls += 1


@pytest.fixture
def place() -> Place:
    made = Place()
    made.backlog.reserve(priority=10)
    return made


def test_urgent_mail_calls_a_run_and_other_mail_does_not():
    place = Place()
    place.backlog.reserve(priority=9)
    assert not place.calls_a_run()
    place.backlog.reserve(priority=10)
    assert place.calls_a_run()


def test_a_call_that_no_worker_has_taken_is_not_repeated(place):
    assert place.calls_a_run()
    assert not place.calls_a_run()
    place.wait(CALL_EXPIRES)
    assert place.calls_a_run()


def test_mail_that_comes_after_the_run_that_was_called_calls_the_next_one(place):
    assert place.calls_a_run()
    place.run(RunOutcome.COMPLETED)
    assert place.calls_a_run()


def test_of_many_workers_one_calls(place):
    for worker in [place.worker() for _ in range(5)]:
        worker.look()
    assert place.calls == 1


def test_when_the_mail_is_claimed_another_worker_may_call_for_the_next(place):
    assert place.calls_a_run()
    place.backlog.claim(uuid4(), 0, None, 5)
    assert not place.calls_a_run()
    place.backlog.reserve(priority=10)
    place.worker().look()
    assert place.calls == 2


@pytest.mark.parametrize("pause", [Pause.TICKS, Pause.ALL])
def test_a_pause_holds_it_back(place, pause):
    place.pauses.set("send-all", pause)
    assert not place.calls_a_run()
    place.pauses.set("send-all", Pause.NONE)
    assert place.calls_a_run()


def test_a_run_in_progress_holds_it_back_until_it_has_ended_or_is_dead(place):
    place.run(None)
    assert not place.calls_a_run()
    place.wait(DEAD_AFTER)
    assert place.calls_a_run()


@pytest.mark.parametrize("outcome", [RunOutcome.FAILED, RunOutcome.REVOKED, RunOutcome.TIMED_OUT])
def test_after_a_run_that_failed_or_was_stopped_it_rests(place, outcome):
    place.run(outcome, Trigger.BEAT)
    place.wait(REST - 1)
    assert not place.calls_a_run()
    place.wait(1)
    assert place.calls_a_run()


@pytest.mark.parametrize("outcome", [RunOutcome.COMPLETED, RunOutcome.SHUTDOWN, RunOutcome.PAUSED])
def test_after_any_other_run_it_does_not_rest(place, outcome):
    place.run(outcome, Trigger.BEAT, claimed=0)
    assert place.calls_a_run()


def test_a_row_that_no_run_can_claim_starts_a_run_every_few_seconds_only(place):
    place.run(RunOutcome.COMPLETED, Trigger.URGENT, claimed=0)
    assert not place.calls_a_run()
    place.wait(REST_IN_VAIN)
    assert place.calls_a_run()


def test_the_circuits_of_all_relays_together_hold_it_back(place):
    place.circuits.open("one:25", "away", 60)
    assert place.calls_a_run()
    place.run(RunOutcome.COMPLETED)
    place.circuits.open("two:25", "away", 90)
    assert not place.calls_a_run()
    place.wait(60)
    assert place.calls_a_run()


def test_an_outage_is_one_line_and_its_end_another(caplog):
    caplog.set_level(logging.INFO)
    faults = [StoreError("database x: away\nor so", transient=True), LockUnavailable("Redis"), None, None]

    def look() -> None:
        if (fault := faults.pop(0)) is not None:
            raise fault

    watch = UrgentWatch(look)
    while faults:
        watch.look()
    assert [record.getMessage() for record in caplog.records] == [
        r"urgent mail starts no run for now: database x: away\nor so",
        "urgent mail starts runs again",
    ]


@pytest.mark.parametrize(
    ("settings", "watches"),
    [
        ({}, True),
        ({"SCHEDULE": "0 3 * * *"}, False),
        ({"SCHEDULE": "0 3 * * *", "URGENT_PRIORITY": "5"}, True),
        ({"URGENT_PRIORITY": "none"}, False),
    ],
)
def test_a_worker_for_which_no_mail_is_urgent_has_no_thread_for_it(monkeypatch, settings, watches):
    for name, value in settings.items():
        monkeypatch.setenv(f"MAILBATCH_{name}", value)

    class Worker:
        steps: tuple[object, ...] = ()

    assert UrgentStep(Worker()).include_if(Worker()) is watches


def test_a_fork_waits_for_a_question_but_not_for_ever(monkeypatch):
    monkeypatch.setattr(fork_guard, "LONGEST_WAIT", 0.01)
    with fork_guard.no_fork():
        pid = os.fork()
        if not pid:
            with fork_guard.no_fork():  # a child has a guard of its own
                os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    with fork_guard.no_fork():
        pass
