"""The port ``HealthQuery``: the signs of life of a job and its backlog, as ages by one clock."""

from __future__ import annotations

import pytest
from support.rows import attempt_row, lane_row, reservation_row, run_row

from mailbatch.domain.reservation import Status
from mailbatch.infrastructure.db.runs import DIED
from mailbatch.infrastructure.db.schedule import EntryState

JOB = "send-all"


def health(world, ended_for: float = 60.0):
    return world.health_query.health(JOB, ended_for)


def about(seconds: float):
    """An age: a slow machine may take some seconds from writing to reading."""
    return pytest.approx(seconds + 15, abs=16)


def test_where_nothing_is_there_is_no_sign_of_life(world):
    found = health(world)
    ages = (found.oldest_due, found.oldest_waiting, found.last_sign, found.last_tick, found.next_tick, found.answered)
    assert set(ages) == {None}
    assert (found.open_run, found.run_age, found.silent, found.died) == (None, None, None, None)
    assert (found.under_way, found.ended, found.oldest_ended) == (0, 0, None)
    assert abs((found.now - world.now).total_seconds()) < 60


def test_what_has_expired_waits_and_is_not_due(world):
    world.put(
        reservation_row(world.ago(700), expires_at=world.ago(600), priority=1),
        reservation_row(world.ago(50), priority=4),
        reservation_row(world.ago(-50)),
    )
    found = health(world)
    assert (found.oldest_due, found.oldest_waiting) == (about(50), about(700))


def test_the_run_that_goes_on_is_the_one_that_was_heard_of_last(world):
    silent = run_row(world.ago(90), heartbeat_at=world.ago(80))
    alive = run_row(world.ago(100), heartbeat_at=world.ago(20))
    ended = run_row(world.ago(10), outcome="completed")
    world.put(silent, alive, ended, run_row(job="purge"))
    found = health(world)
    assert found.open_run == alive.run_id
    assert (found.run_age, found.silent, found.last_sign) == (about(100), about(20), about(10))


def test_a_run_that_died_is_named_until_another_begins(world):
    world.put(run_row(world.ago(300), outcome="failed", error=DIED, finished_at=world.ago(200)))
    assert health(world).died == about(200)
    world.put(run_row(world.ago(100), outcome="completed", finished_at=world.ago(90)))
    assert health(world).died is None


def test_what_mails_wait_for_is_named_until_a_run_found_it_again(world):
    error = "mails wait: attachments: the folder /srv/files is empty"
    world.put(
        reservation_row(world.ago(900)),
        run_row(world.ago(700), outcome="failed", error=error, finished_at=world.ago(600)),
    )
    assert (health(world).fault, health(world).fault_age) == (error, about(600))
    world.put(run_row(world.ago(200), outcome="paused", finished_at=world.ago(200)))
    world.put(run_row(world.ago(100)))
    assert health(world).fault == error, "neither of these has tried"
    world.put(run_row(world.ago(90), outcome="completed", finished_at=world.ago(80)))
    assert (health(world).fault, health(world).fault_age) == (None, None)


def test_what_mails_wait_for_is_named_while_they_are_not_due_again(world):
    """A run each minute has nothing to do meanwhile, and completes."""
    error = "mails wait: templates: the folder /srv/templates is empty"
    world.put(
        reservation_row(world.ago(900)),
        run_row(world.ago(150), outcome="failed", error=error, finished_at=world.ago(140)),
    )
    world.put(run_row(world.ago(90), outcome="completed", finished_at=world.ago(90)))
    assert (health(world).fault, health(world).fault_age) == (error, about(140))


def test_what_the_mails_of_a_helper_wait_for_is_named_too(world):
    run = run_row(world.ago(20), outcome="completed", finished_at=world.ago(10))
    world.put(reservation_row(world.ago(900)), run)
    world.put(lane_row(world.ago(20), run_id=run.run_id, lane=1, error="the relay is away: relay:25: silent"))
    assert health(world).fault is None
    error = "mails wait: a temporary file in /spool cannot be used: No space left on device"
    world.put(lane_row(world.ago(20), run_id=run.run_id, lane=2, error=error))
    assert health(world).fault == error


def test_nothing_is_said_to_wait_once_nothing_is_pending(world):
    """The mails were sent within the minute in which the folder came back, or were cancelled."""
    error = "mails wait: attachments: the folder /srv/files is empty"
    world.put(run_row(world.ago(20), outcome="failed", error=error, finished_at=world.ago(10)))
    world.put(reservation_row(world.ago(900), status=Status.SENT, finished_at=world.ago(5)))
    assert (health(world).fault, health(world).fault_age) == (None, None)


def test_ticks_are_those_of_the_job(world):
    world.put(EntryState(JOB, last_tick_at=world.ago(100), next_tick_at=world.ago(-500)), EntryState("purge"))
    found = health(world)
    assert (found.last_tick, found.next_tick) == (about(100), pytest.approx(500 - 15, abs=16))
    assert abs((found.next_tick_at - world.ago(-500)).total_seconds()) < 0.01


def test_claims_are_under_way_while_their_leases_last_and_ended_long_after(world):
    for over in (-50, -50, 20, 100, 130):
        world.put(reservation_row(status=Status.SENDING, lease_until=world.ago(over)))
    found = health(world, ended_for=60)
    assert (found.under_way, found.ended, found.oldest_ended) == (2, 2, about(130))


@pytest.mark.parametrize("outcome", ["failed", "deferred"])
def test_a_refusal_is_an_answer_and_so_is_a_sent_mail(world, outcome):
    mail = reservation_row(world.ago(900), status=Status.SENT, finished_at=world.ago(500))
    world.put(mail)
    assert health(world).answered == about(500)
    world.put(attempt_row(mail, world.ago(100), outcome=outcome))
    assert health(world).answered == about(100)


def test_what_nobody_said_and_what_lies_ahead_are_no_answers(world):
    cancelled = reservation_row(status=Status.CANCELLED, finished_at=world.ago(1))
    ahead = reservation_row(status=Status.SENT, finished_at=world.ago(-9999))
    world.put(cancelled, ahead, attempt_row(cancelled, world.ago(1), outcome="in_doubt"))
    assert health(world).answered is None
