"""A run of any batch, over fakes: lock, pause, row, texts and report."""

from __future__ import annotations

import logging
import threading
from uuid import uuid4

import pytest
from support.fake_stores import FakePauseStore, FakeRuns
from support.fake_tables import FakeTables
from support.fakes import FakeLock, FakeRedisServer, FakeStatusBoard
from support.waiting import wait_until

from mailbatch.batch import job
from mailbatch.batch.ending import FINAL_WRITES_TIMEOUT
from mailbatch.batch.job import Job
from mailbatch.batch.lanes import LaneRun
from mailbatch.domain.errors import JobExecError, NotMigrated, RunFailed
from mailbatch.domain.run import DEAD_AFTER, Counts, ItemError, Pause, RunOutcome, Trigger


class World:
    def __init__(self) -> None:
        self.tables = FakeTables()
        self.clock = self.tables.clock
        self.redis = FakeRedisServer()
        self.runs = FakeRuns(self.tables)
        self.pause_store = FakePauseStore(self.tables)
        self.status = FakeStatusBoard(self.redis)

    def job(self, work=lambda run: None, **kwargs) -> Job:
        given = {
            "name": "nightly",
            "lock": FakeLock(self.redis, "nightly", 30),
            "lock_ttl": 30,
            "status": self.status,
            **kwargs,
        }
        return Job(work=work, runs=self.runs, pause_store=self.pause_store, clock=self.clock, new_id=uuid4, **given)

    @property
    def row(self):
        return next(iter(self.tables.runs.values()))


@pytest.fixture
def world() -> World:
    return World()


def test_a_run_is_a_row_and_a_report(world):
    def work(run):
        run.count(Counts(sent=2))
        world.clock.now += 1.5

    report = world.job(work, remaining=lambda: 7, bound=256)(Trigger.BEAT)
    assert report.as_dict() == {
        "run_id": str(report.run_id),
        "trigger": "beat",
        "outcome": "completed",
        "sent": 2,
        "failed": 0,
        "deferred": 0,
        "in_doubt": 0,
        "expired": 0,
        "held_back": 0,
        "remaining": 7,
        "duration": 1.5,
        "bound": 256,
        "errors": [],
    }
    assert world.row.outcome is RunOutcome.COMPLETED


def test_the_loser_of_the_lock_is_skipped_with_a_line_and_without_a_row(world, caplog):
    caplog.set_level(logging.INFO)
    assert FakeLock(world.redis, "nightly", 30).acquire()
    report = world.job(lambda run: pytest.fail("it ran"))()
    assert (report.outcome, report.run_id, world.tables.runs) == (RunOutcome.SKIPPED, None, {})
    assert "job is already running" in caplog.text


def test_a_run_on_tables_that_were_migrated_meanwhile_does_not_begin(world):
    def migrated():
        raise NotMigrated("the database is at revision mailbatch_9999; run `mailbatch migrate`")

    with pytest.raises(JobExecError, match=r"^\[JOB EXEC ERROR\] the database is at revision mailbatch_9999"):
        world.job(lambda run: pytest.fail("it ran"), ensure_migrated=migrated)()
    assert world.tables.runs == {}


def test_the_end_is_logged_with_name_and_duration_also_after_an_error(world, caplog):
    caplog.set_level(logging.INFO)

    def work(_run):
        world.clock.now += 2
        raise RunFailed("the relay is away")

    world.job(work)()
    assert "job finished: nightly, failed after 2.000 s" in caplog.text


def test_a_panic_is_recorded_keeps_the_errors_before_it_and_frees_the_lock(world):
    def work(run):
        run.item_error(ItemError(1, uuid4(), ("550 no",)))
        raise ZeroDivisionError("division by zero")

    with pytest.raises(JobExecError, match=r"^\[JOB EXEC ERROR\] ZeroDivisionError: division by zero$"):
        world.job(work)()
    assert world.row.outcome is RunOutcome.FAILED
    assert world.row.error == "[JOB EXEC ERROR] ZeroDivisionError: division by zero"
    assert [e.index for e in next(iter(world.tables.errors.values()))] == [1]
    assert FakeLock(world.redis, "nightly", 30).acquire()


@pytest.mark.parametrize("error", [KeyError("ann@example.com"), RunFailed("550 <ann@example.com> is blocked")])
def test_the_error_of_a_run_shows_no_address_in_its_row_or_to_celery(world, error):
    def work(_run):
        raise error

    try:
        said = str(world.job(work)().errors)
    except JobExecError as broken:
        said = str(broken)
    assert "***@example.com" in said
    assert "***@example.com" in world.row.error
    assert "ann@" not in world.row.error + said


def test_a_run_that_cannot_go_on_reports_its_error_first_and_raises_nothing(world):
    def work(run):
        run.item_error(ItemError(3, "id", ("no",)))
        raise RunFailed("failed to find reservation mail list. err:boom")

    report = world.job(work)()
    assert report.outcome is RunOutcome.FAILED
    assert report.errors == [
        "failed to find reservation mail list. err:boom",
        "[error]Index:3,ReservationID:id,Errors:[no]",
    ]


@pytest.mark.parametrize("why", [RunOutcome.REVOKED, RunOutcome.SHUTDOWN])
def test_an_interrupted_run_has_the_outcome_of_its_interruption_and_keeps_its_counts(world, why):
    def work(run):
        run.count(Counts(sent=1))
        assert run.stop.reason() is why

    report = world.job(work)(interrupted=lambda: why)
    assert (report.outcome, report.counts.sent) == (why, 1)


def test_a_run_over_its_time_limit_stops_as_timed_out(world):
    def work(run):
        assert run.stop.reason() is None
        world.clock.now += 301
        assert run.stop.reason() is RunOutcome.TIMED_OUT

    assert world.job(work, timeout=300)().outcome is RunOutcome.TIMED_OUT


def test_a_lost_lock_stops_the_run(world):
    def work(run):
        world.redis.keys.clear()
        world.redis.now = lambda: 1e12
        assert run.stop.reason() is RunOutcome.LOCK_LOST

    assert world.job(work)().outcome is RunOutcome.LOCK_LOST


def test_pause_all_is_seen_while_the_run_works(world):
    seen = threading.Event()

    def work(run):
        world.pause_store.set("nightly", Pause.ALL)
        for _ in range(1000):
            if run.stop.reason() is not None:
                return
            seen.wait(0.01)

    assert world.job(work)().outcome is RunOutcome.PAUSED


def test_only_the_run_that_is_requested_to_stop_ends_as_revoked(world, monkeypatch):
    monkeypatch.setattr(job, "PAUSE_POLL", 0.01)
    waiting = threading.Event()

    def work(run):
        world.runs.request_stop(uuid4())
        waiting.wait(0.05)
        assert run.stop.reason() is None
        assert world.runs.request_stop(run.id)
        assert not world.runs.request_stop(run.id)
        wait_until(lambda: run.stop.reason() is not None, 5, "the run learns of it")

    assert world.job(work)().outcome is RunOutcome.REVOKED
    assert not world.runs.request_stop(next(iter(world.tables.runs)))
    assert world.job()().outcome is RunOutcome.COMPLETED


@pytest.mark.parametrize(
    ("pause", "trigger", "outcome"),
    [
        (Pause.TICKS, Trigger.BEAT, RunOutcome.PAUSED),
        (Pause.TICKS, Trigger.MANUAL, RunOutcome.COMPLETED),
        (Pause.ALL, Trigger.BEAT, RunOutcome.PAUSED),
        (Pause.ALL, Trigger.MANUAL, RunOutcome.PAUSED),
        (Pause.NONE, Trigger.BEAT, RunOutcome.COMPLETED),
    ],
)
def test_a_pause_holds_back_ticks_or_everything(world, pause, trigger, outcome):
    world.pause_store.set("nightly", pause)
    assert world.job()(trigger).outcome is outcome
    assert world.row.outcome is outcome


def test_a_paused_call_reports_what_remains(world):
    world.pause_store.set("nightly", Pause.ALL)
    assert world.job(remaining=lambda: 7)().remaining == 7


def test_a_run_that_died_is_closed_by_the_next_one(world, caplog):
    dead = uuid4()
    world.runs.open(dead, "nightly", Trigger.BEAT, 0)
    world.clock.now += DEAD_AFTER + 1
    world.job()()
    assert world.tables.runs[dead].outcome is RunOutcome.FAILED
    assert f"run {dead} died without an end" in caplog.text


def test_without_redis_a_run_fails_with_one_line_and_a_row(world):
    world.redis.away = True
    with pytest.raises(JobExecError, match=r"^\[JOB EXEC ERROR\] Redis cannot be asked"):
        world.job()()
    assert world.row.outcome is RunOutcome.FAILED
    assert world.row.error.startswith("[JOB EXEC ERROR] Redis cannot be asked")


def test_without_a_lock_no_redis_is_needed(world):
    world.redis.away = True
    assert world.job(lock=None, status=None)().outcome is RunOutcome.COMPLETED


def test_the_status_says_running_and_then_finished(world):
    shown = []
    world.job(lambda run: shown.append(world.status.get("nightly")))()
    assert shown[0]["state"] == "running"
    assert world.status.get("nightly")["state"] == "finished"


def test_every_item_error_is_written_though_the_report_shows_the_first_100(world):
    def work(run):
        for i in range(1, 1201):
            run.item_error(ItemError(i, uuid4(), ("no",)))

    report = world.job(work)()
    assert len(report.errors) == 100
    assert len(world.tables.errors[report.run_id]) == 1200


def test_the_end_of_a_run_is_written_though_the_database_is_away_for_a_moment(world):
    def work(run):
        run.count(Counts(failed=1))
        run.item_error(ItemError(1, uuid4(), ("550 no",)))
        world.runs.away = 4

    report = world.job(work)()
    assert world.row.outcome is RunOutcome.COMPLETED
    assert world.row.failed == 1
    assert [e.index for e in world.tables.errors[report.run_id]] == [1]


def test_a_database_that_stays_away_does_not_keep_a_run_from_ending(world, caplog):
    def work(_run):
        world.runs.away = 10**9

    began = world.clock.now
    assert world.job(work)().outcome is RunOutcome.COMPLETED
    assert world.clock.now - began <= FINAL_WRITES_TIMEOUT
    assert "the end of the run could not be written" in caplog.text


def test_a_helpers_item_errors_are_written_with_its_next_heartbeat(world, monkeypatch):
    callbacks, run_id = [], uuid4()
    monkeypatch.setattr(LaneRun, "every", lambda _self, _seconds, callback: callbacks.append(callback))
    run = LaneRun(run_id, 1, world.runs, Signs(), lambda: None)
    run.keep_up()
    run.item_error(ItemError(7, uuid4(), ("550 no",)))
    for callback in callbacks:
        callback()
    assert [e.index for e in world.tables.errors[run_id]] == [7]


class Signs:
    """The port ``Lanes`` of a run that nobody stops."""

    def beat(self, run_id, lane):
        pass

    def must_stop(self, run_id, silent):
        return None
