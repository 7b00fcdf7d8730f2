"""The end of a run: its ending from what its work raised, and its last writes under one deadline."""

from __future__ import annotations

import logging

import pytest
from support.fake_clock import FakeClock
from support.fake_stores import FakeRun, FakeStop

from mailbatch.batch.ending import FINAL_WRITES_TIMEOUT, Ending, FinalWrites, work_to_the_end
from mailbatch.domain.errors import RunFailed, StoreError
from mailbatch.domain.run import RunOutcome


def ending_of(error: BaseException | None, stop: FakeStop | None = None) -> Ending:
    def work(_run):
        if error is not None:
            raise error

    return work_to_the_end(work, FakeRun(stop=stop or FakeStop()))


def test_work_that_returns_has_completed():
    assert ending_of(None) == Ending(RunOutcome.COMPLETED)


def test_work_that_returns_because_it_must_stop_has_that_reason():
    assert ending_of(None, FakeStop(RunOutcome.PAUSED)) == Ending(RunOutcome.PAUSED)


def test_a_run_whose_mails_wait_for_a_folder_has_failed_although_it_went_to_its_end():
    away = "attachments: the folder of <ann@example.com> cannot be opened"
    error = "mails wait: attachments: the folder of <***@example.com> cannot be opened"
    assert work_to_the_end(lambda run: run.note_fault(away), FakeRun()) == Ending(RunOutcome.FAILED, error)
    paused = FakeRun(stop=FakeStop(RunOutcome.PAUSED))
    assert work_to_the_end(lambda run: run.note_fault(away), paused) == Ending(RunOutcome.PAUSED, error)


def test_a_run_that_failed_raises_nothing_and_shows_no_address():
    assert ending_of(RunFailed("550 <ann@example.com>\nno")) == Ending(RunOutcome.FAILED, "550 <***@example.com>\\nno")


def test_a_termination_is_raised_again_after_the_row_is_written():
    terminated = SystemExit(143)
    assert ending_of(terminated) == Ending(RunOutcome.REVOKED, "terminated by SystemExit", raises=terminated)


class Database:
    """Fails ``failures`` times, and then takes a write."""

    def __init__(self, failures: int, *, transient: bool = True) -> None:
        self.failures = failures
        self.transient = transient
        self.tries = 0

    def __call__(self) -> str:
        self.tries += 1
        if self.tries <= self.failures:
            raise StoreError("the database is away", transient=self.transient)
        return "written"


def test_a_last_write_is_retried_until_the_database_takes_it():
    assert FinalWrites(FakeClock()).write_with_deadline(Database(5), "lost", "not written") == "written"


def test_all_last_writes_share_one_deadline(caplog):
    clock = FakeClock()
    began, final = clock.now, FinalWrites(clock)
    for _ in range(3):
        assert final.write_with_deadline(Database(10**9), "lost", "not written") == "lost"
    assert clock.now - began <= FINAL_WRITES_TIMEOUT
    assert [r.levelno for r in caplog.records] == [logging.ERROR] * 3


def test_an_error_that_lasts_is_not_retried(caplog):
    database = Database(1, transient=False)
    assert FinalWrites(FakeClock()).write_with_deadline(database, "lost", "not written") == "lost"
    assert database.tries == 1
    assert "not written: the database is away" in caplog.text


@pytest.mark.parametrize("failures", [0, 1])
def test_a_write_after_the_deadline_is_tried_once(failures):
    clock = FakeClock()
    final = FinalWrites(clock)
    clock.now += FINAL_WRITES_TIMEOUT
    expected = "written" if failures == 0 else "lost"
    assert final.write_with_deadline(Database(failures), "lost", "not written") == expected
