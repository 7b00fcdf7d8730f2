"""The port ``Reports``: what the screens read of runs and of the backlog as a whole."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from support.rows import attempt_row, lane_row, reservation_row, run_row

from mailbatch.domain.census import ErrorGroup, ScheduledJob
from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import RunPlace
from mailbatch.domain.run import ItemError, Pause, RunOutcome
from mailbatch.infrastructure.db.schedule import EntryState


def test_a_census_counts_each_state_and_what_is_due(world):
    world.put(
        reservation_row(world.ago(100), priority=3),
        reservation_row(world.ago(700), expires_at=world.ago(600)),
        reservation_row(world.ago(-3600)),
        reservation_row(world.ago(50), status=Status.SENDING, lease_until=world.ago(-60)),
        reservation_row(world.ago(90), status=Status.FAILED, finished_at=world.ago(5)),
    )
    census = world.reports.census()
    assert (census.counts[Status.PENDING], census.counts[Status.FAILED], census.counts[Status.SENT]) == (3, 1, 0)
    assert (census.due, census.under_way, census.unsent, census.exact) == (1, 1, 2, True)
    assert 100 <= census.oldest_due_seconds < 160


def test_a_census_of_nothing_has_no_oldest_mail(world):
    census = world.reports.census()
    assert (census.due, census.oldest_due_seconds) == (0, None)
    assert set(census.counts.values()) == {0}


def test_runs_are_listed_newest_first_and_pages_go_on_without_gaps(world):
    same = world.ago(100)
    runs = [run_row(world.ago(ago)) for ago in (10, 300, 200)] + [run_row(same), run_row(same)]
    world.put(*runs, run_row(job="purge"))
    ids = [r.run_id for r in sorted(runs, key=lambda r: (r.started_at, r.run_id), reverse=True)]
    seen, before = [], None
    while page := world.reports.runs("send-all", 2, before):
        seen += [run.run_id for run in page]
        before = RunPlace(started_at=page[-1].started_at, run_id=page[-1].run_id)
    assert seen == ids


def test_only_runs_that_are_worth_a_look_are_listed_without_the_quiet_ones(world):
    ended = {"finished_at": world.ago(1)}
    quiet = [run_row(world.ago(50 + i), outcome=o, **ended) for i, o in enumerate(("completed", "paused"))]
    worth = [
        run_row(world.ago(40)),
        run_row(world.ago(30), outcome="completed", sent=1, **ended),
        run_row(world.ago(20), outcome="completed", remaining=1, **ended),
        run_row(world.ago(10), outcome="failed", **ended),
    ]
    world.put(*quiet, *worth)
    found = world.reports.runs("send-all", 9, quiet=False)
    assert [run.run_id for run in found] == [run.run_id for run in reversed(worth)]
    assert len(world.reports.runs("send-all", 9)) == 6


def test_a_run_says_how_long_it_is_silent_and_how_it_ended(world):
    run = run_row(world.ago(500), heartbeat_at=world.ago(40), outcome=RunOutcome.REVOKED, sent=7, error="e", host="h")
    world.put(run)
    found = world.reports.run(run.run_id)
    assert (found.outcome, found.sent, found.error, found.host) == (RunOutcome.REVOKED, 7, "e", "h")
    assert 40 <= found.silent < 100
    assert world.reports.run(uuid4()) is None


def test_a_helper_is_known_by_its_run_and_its_number(world):
    run = run_row(world.ago(10))
    world.put(run, lane_row(world.ago(3), run_id=run.run_id, lane=2, left_at=world.ago(1)))
    assert world.reports.lane(run.run_id, 2).left_at is not None
    assert world.reports.lane(run.run_id, 1) is None


def test_the_errors_of_a_run_come_in_order_from_any_place(world):
    run = run_row()
    world.put(run)
    errors = [ItemError(index, uuid4(), (f"error {index}", "and more")) for index in (3, 1, 2)]
    world.put_errors(run.run_id, errors)
    in_order = sorted(errors, key=lambda error: error.index)
    assert list(world.reports.errors(run.run_id)) == in_order
    assert list(world.reports.errors(run.run_id, after=2)) == in_order[2:]
    assert list(world.reports.errors(uuid4())) == []


def test_the_attempts_of_a_run_are_grouped_by_what_was_said_the_most_frequent_first(world):
    run, other = run_row(world.ago(60)), run_row(world.ago(60))
    mail = reservation_row(claim_no=9)
    world.put(run, other, mail)
    said = [("failed", 550, "b no"), ("deferred", 450, "later"), ("failed", 550, "a no"), ("released", None, None)]
    for claim, (outcome, code, text) in enumerate(said, 1):
        reply = {"outcome": outcome, "reply_code": code, "reply_text": text, "run_id": run.run_id}
        world.put(attempt_row(mail, world.ago(5), claim_no=claim, **reply))
    world.put(attempt_row(mail, world.ago(5), claim_no=8, outcome="failed", reply_code=550, run_id=other.run_id))
    assert world.reports.error_groups(run.run_id) == [
        ErrorGroup("failed", 550, None, 2, "a no"),
        ErrorGroup("deferred", 450, None, 1, "later"),
    ]


def test_a_job_is_known_if_it_has_run_or_has_a_schedule(world):
    tick = world.ago(-300).replace(microsecond=0)
    world.put(
        run_row(job="b"),
        run_row(job="b"),
        run_row(job="c"),
        EntryState("a", Pause.ALL),
        EntryState("c", next_tick_at=tick),
    )
    assert world.reports.jobs() == [
        ScheduledJob("a", Pause.ALL),
        ScheduledJob("b"),
        ScheduledJob("c", Pause.NONE, tick),
    ]


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_runs_come_than_are_asked_for(world, limit):
    world.put(*(run_row(world.now - timedelta(seconds=n)) for n in range(3)))
    assert len(world.reports.runs("send-all", limit)) == limit
