"""The port ``Upcoming``: what the next runs send, and in which order."""

from __future__ import annotations

from support.rows import reservation_row

from mailbatch.domain.outcome import Kind
from mailbatch.domain.reservation import Status


def test_mails_come_in_the_order_of_a_run_the_highest_priority_first(world):
    at = world.ago(30)
    rows = [
        reservation_row(world.ago(10)),
        reservation_row(world.ago(20)),
        reservation_row(world.ago(5), priority=7),
        reservation_row(world.ago(90), priority=-2),
        reservation_row(at, priority=1),
        reservation_row(at, priority=1),
    ]
    world.put(*rows)
    in_order = sorted(rows, key=lambda row: (-row.priority, row.due_at, row.id))
    found = list(world.upcoming.mails(None, 50))
    assert [mail.claim.reservation_id for mail in found] == [row.id for row in in_order]
    assert [mail.index for mail in found] == [1, 2, 3, 4, 5, 6]
    assert len(list(world.upcoming.mails(None, 4))) == 4
    assert [world.upcoming.ahead(row, 99) for row in in_order] == [0, 1, 2, 3, 4, 5]
    assert world.upcoming.ahead(in_order[-1], 3) == 3


def test_what_has_expired_by_then_is_left_out_and_what_is_due_by_then_comes(world):
    now, later = reservation_row(world.ago(10)), reservation_row(world.ago(-100))
    expired, expires = (reservation_row(world.ago(10), expires_at=world.ago(ago)) for ago in (5, -50))
    world.put(now, later, expired, expires)
    assert world.upcoming.count(None) == (2, True)
    assert world.upcoming.count(world.ago(-200)) == (2, True)
    ids = [mail.claim.reservation_id for mail in world.upcoming.mails(world.ago(-200), 9)]
    assert ids == [now.id, later.id]
    assert world.upcoming.ahead(later, 9) == 2


def test_nothing_but_what_is_pending_comes(world):
    world.put(
        reservation_row(world.ago(10), status=Status.SENDING, lease_until=world.ago(-9)),
        *(reservation_row(world.ago(10), status=s, finished_at=world.ago(1)) for s in (Status.SENT, Status.FAILED)),
    )
    assert world.upcoming.count(None) == (0, True)
    assert list(world.upcoming.mails(None, 9)) == []


def test_a_mail_has_what_a_composer_needs(world):
    taken = {"ann@example.org": {"kind": "accepted", "code": 250, "text": "ok"}}
    refused = {"bob@example.org": {"kind": "deferred", "code": 450, "text": "later"}}
    row = reservation_row(world.ago(1), attempts=2, claim_no=2, message_id="<1@x>", verdicts=taken | refused)
    world.put(row)
    [mail] = world.upcoming.mails(None, 9)
    assert (mail.mail, mail.message_id, mail.attempts, mail.claim.claim_no) == (row.mail, "<1@x>", 2, 2)
    assert {to: verdict.kind for to, verdict in mail.earlier.items()} == {"ann@example.org": Kind.ACCEPTED}
