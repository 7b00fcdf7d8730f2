"""The port ``Measures``: the figures of a monitoring system."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.rows import attempt_row, reservation_row, run_row

from mailbatch.domain.circuit import Circuit, CircuitState
from mailbatch.domain.figures import DURATIONS, LAGS, CircuitFigures
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Pause
from mailbatch.infrastructure.db.schedule import EntryState


def job(world, name: str = "send-all"):
    return next(found for found in world.measures.figures().jobs if found.job == name)


def test_without_rows_there_are_no_jobs_and_no_lags(world):
    figures = world.measures.figures()
    assert (figures.jobs, figures.refusals, figures.in_doubt_oldest, figures.circuits) == ([], {}, None, [])
    assert figures.lags.counts == (0,) * (len(LAGS) + 1)
    assert figures.since.timestamp() % 86_400 == 0


def test_sums_begin_at_midnight_and_cut_no_run_in_two(world):
    midnight = world.measures.figures().since
    yesterday = midnight - timedelta(hours=12)
    ended = {"outcome": "completed", "finished_at": midnight}
    world.put(run_row(yesterday, sent=100, duration=9.0, **ended), run_row(midnight, sent=7, duration=2.0, **ended))
    assert job(world).items["sent"] == 7
    assert job(world).runs == {"completed": 1}
    # A run that goes on since yesterday keeps yesterday's sums.
    world.put(run_row(yesterday + timedelta(hours=1), sent=5, heartbeat_at=world.ago(0)))
    assert (job(world).items["sent"], job(world).running) == (112, True)


def test_a_duration_counts_where_a_run_did_something(world):
    at = world.measures.figures().since
    ended = {"outcome": "completed", "finished_at": at}
    world.put(run_row(at, duration=0.1, **ended), run_row(at, sent=1, duration=2.0, **ended))
    counts = job(world).durations.counts
    assert (counts[DURATIONS.index(1.0)], counts[DURATIONS.index(2.5)], counts[-1]) == (0, 1, 1)
    assert job(world).durations.total == pytest.approx(2.0)


def test_the_last_run_is_told_and_one_that_a_pause_held_back_is_not_begun(world):
    began = world.ago(500)
    world.put(
        run_row(began, outcome="failed", finished_at=world.ago(400), remaining=9),
        run_row(world.ago(20), outcome="paused", finished_at=world.ago(20)),
        EntryState("send-all", Pause.TICKS, last_tick_at=world.ago(20)),
        EntryState("purge"),
    )
    found = job(world)
    assert abs((found.started_at - began).total_seconds()) < 0.01
    assert (found.outcome, found.paused, found.running, found.remaining) == ("paused", True, False, 0)
    assert 500 <= found.silent < 560
    assert (job(world, "purge").started_at, job(world, "purge").paused) == (None, False)


def test_recent_refusals_are_counted_by_class_and_lags_from_due_to_sent(world):
    for lag in (0.5, 30, 4000):
        sent = {"status": Status.SENT, "sent_at": world.ago(60), "finished_at": world.ago(60)}
        world.put(reservation_row(world.ago(60 + lag), **sent))
    mail = reservation_row(world.ago(7200), status=Status.SENT, finished_at=world.ago(7000))
    world.put(mail)
    for claim, (outcome, code) in enumerate((("failed", 550), ("failed", None), ("deferred", 451), ("deferred", 421))):
        world.put(attempt_row(mail, world.ago(5), claim_no=claim, outcome=outcome, reply_code=code))
    world.put(attempt_row(mail, world.ago(7000), claim_no=9, outcome="failed", reply_code=550))
    figures = world.measures.figures()
    expected = {("failed", "5xx"): 1, ("failed", "none"): 1, ("deferred", "4xx"): 2}
    assert figures.refusals == expected
    assert [figures.lags.counts[LAGS.index(end)] for end in (1.0, 60.0, 3600.0)] == [1, 2, 2]
    assert figures.lags.counts[-1] == 3


def test_a_doubt_is_as_old_as_its_time_on_the_wire(world):
    world.put(
        reservation_row(world.ago(900), status=Status.IN_DOUBT, wire_at=world.ago(50)),
        reservation_row(world.ago(40), status=Status.IN_DOUBT),
    )
    assert 50 <= world.measures.figures().in_doubt_oldest < 110


def test_a_relay_that_failed_shows(world):
    world.put(Circuit(relay="mx:25", state=CircuitState.OPEN, failures=16))
    assert world.measures.figures().circuits == [CircuitFigures("mx:25", "open", 16)]
