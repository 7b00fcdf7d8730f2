"""The port ``Duplicates``: the mails that somebody may have got twice."""

from __future__ import annotations

from uuid import uuid4

import pytest
from support.rows import attempt_row, reservation_row

from mailbatch.domain.reservation import Status

ACCEPTED = {"ann@example.org": {"kind": "accepted", "code": 250, "text": "ok"}}


def sent_after_doubt(world, ago: float = 100, **columns):
    """A mail that went out without a verdict, and then again."""
    sent = {"status": Status.SENT, "claim_no": 2, "sent_at": world.ago(50), "finished_at": world.ago(50)}
    row = reservation_row(world.ago(ago + 1), **sent | columns)
    doubt = attempt_row(row, world.ago(ago), relay="mx:25", run_id=uuid4())
    world.put(row, doubt)
    return row, doubt


def ids(world, since=None, limit=99):
    return [found.reservation_id for found in world.duplicates.resent(since, limit)]


def test_a_mail_that_was_sent_after_a_doubt_is_named_with_both_attempts(world):
    row, doubt = sent_after_doubt(world, message_id="<1@x>", relay="mx2:25", reply_text="ok", run_id=uuid4())
    [found] = world.duplicates.resent(None, 9)
    assert (found.reservation_id, found.recipients, found.message_id) == (row.id, row.recipients, "<1@x>")
    assert (found.doubt_relay, found.doubt_run_id) == ("mx:25", doubt.run_id)
    assert (found.relay, found.reply_text, found.run_id) == ("mx2:25", "ok", row.run_id)
    assert abs((found.sent_at - row.sent_at).total_seconds()) < 0.01
    assert abs((found.doubt_at - doubt.ended_at).total_seconds()) < 0.01


def test_the_last_doubt_comes_first_and_a_limit_and_a_time_bound_them(world):
    old, new = sent_after_doubt(world, 200)[0], sent_after_doubt(world, 100)[0]
    assert ids(world) == [new.id, old.id]
    assert ids(world, limit=1) == [new.id]
    assert ids(world, since=world.ago(150)) == [new.id]


def test_what_an_operator_resolved_was_claimed_once_and_is_none(world):
    sent_after_doubt(world, claim_no=1)
    assert ids(world) == []


def test_what_was_put_off_and_then_sent_is_none(world):
    row = reservation_row(status=Status.SENT, claim_no=2, finished_at=world.ago(1), sent_at=world.ago(1))
    world.put(row, attempt_row(row, world.ago(9), outcome="deferred", reply_code=450))
    assert ids(world) == []


@pytest.mark.parametrize("status", [Status.FAILED, Status.PENDING])
def test_two_doubts_are_enough_whatever_became_of_it(world, status):
    row, _ = sent_after_doubt(world, status=status, claim_no=2, sent_at=None)
    assert ids(world) == []
    again = attempt_row(row, world.ago(20), claim_no=2)
    world.put(again)
    [found] = world.duplicates.resent(None, 9)
    assert found.reservation_id == row.id
    assert abs((found.sent_at - again.ended_at).total_seconds()) < 0.01


def test_one_of_several_recipients_that_took_it_after_a_doubt_is_enough(world):
    row, _ = sent_after_doubt(world, status=Status.FAILED, sent_at=None, verdicts=ACCEPTED)
    assert ids(world) == [row.id]
