"""What an outcome makes of a reservation, arrow by arrow."""

from __future__ import annotations

from uuid import uuid4

import pytest

from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.message import Claim
from mailbatch.domain.outcome import ContentFault, Kind, NotSent, RelayFault, Replied, Reply, Verdict
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.settlement import AWAY_FOR, Settlement, Tally, settle, unavailable

CLAIM = Claim(uuid4(), 1)
YES = Verdict(Kind.ACCEPTED, Reply(250, "2.0.0 ok"))
LATER = Verdict(Kind.DEFERRED, Reply(451, "4.7.1 try later"))
NEVER = Verdict(Kind.REJECTED, Reply(550, "5.1.1 no such user"))
SILENCE = Verdict(Kind.NO_VERDICT, Reply(0, "the connection was lost after the body"))


def judged(
    *verdicts: Verdict,
    attempts: int = 0,
    earlier: dict[str, Verdict] | None = None,
    on_doubt: OnDoubt = OnDoubt.RESEND,
    jitter: float = 1.0,
) -> Settlement:
    answers = {f"to{i}@example.org": v for i, v in enumerate(verdicts)}
    return settle(
        Replied(CLAIM, "relay:25", answers),
        attempts=attempts,
        earlier=earlier or {},
        retry=RetryPolicy(max_attempts=3, backoff=60, backoff_max=3600),
        on_doubt=on_doubt,
        jitter=jitter,
    )


def test_a_mail_that_everyone_took_is_sent_and_keeps_no_verdicts():
    s = judged(YES, YES)
    assert (s.status, s.tally, s.verdicts, s.errors) == (Status.SENT, Tally.SENT, None, ())
    assert s.reply == YES.reply


def test_4xx_comes_back_later_and_uses_an_attempt():
    s = judged(LATER)
    assert (s.status, s.tally, s.attempted) == (Status.PENDING, Tally.DEFERRED, True)
    assert s.errors == ("451 4.7.1 try later",)


def test_the_wait_doubles_with_each_attempt():
    assert [judged(LATER, attempts=n).retry_in for n in (0, 1)] == [60, 120]


def test_several_recipients_wait_for_the_one_who_must_wait_longest():
    full = Verdict(Kind.DEFERRED, Reply(452, "4.2.2 mailbox full"))
    assert judged(LATER, full, NEVER).retry_in == 3600


def test_a_time_that_the_relay_names_is_kept():
    asked = Verdict(Kind.DEFERRED, Reply(450, "4.7.1 Greylisted, try again in 1000 seconds"))
    assert judged(asked, jitter=0.0).retry_in == 1000


def test_4xx_at_the_last_attempt_fails_and_says_why():
    s = judged(LATER, attempts=2)
    assert (s.status, s.tally) == (Status.FAILED, Tally.FAILED)
    assert s.errors == ("451 4.7.1 try later", "all 3 attempts are used up")


def test_5xx_fails_at_once():
    s = judged(NEVER)
    assert (s.status, s.retry_in, s.errors) == (Status.FAILED, None, ("550 5.1.1 no such user",))


def test_no_verdict_is_sent_again_under_resend_and_counted_as_in_doubt():
    s = judged(SILENCE)
    assert (s.status, s.tally) == (Status.PENDING, Tally.IN_DOUBT)
    assert s.retry_in is not None


def test_no_verdict_is_held_under_hold():
    s = judged(SILENCE, on_doubt=OnDoubt.HOLD)
    assert (s.status, s.tally, s.retry_in) == (Status.IN_DOUBT, Tally.IN_DOUBT, None)


def test_no_verdict_at_the_last_attempt_is_held_under_either_policy():
    assert judged(SILENCE, attempts=2).status is Status.IN_DOUBT


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ((YES, SILENCE, LATER, NEVER), Status.PENDING),  # in doubt goes first, and resend sends again
        ((YES, LATER, NEVER), Status.PENDING),
        ((YES, NEVER), Status.FAILED),
    ],
)
def test_several_recipients_are_judged_together_and_keep_a_verdict_each(verdicts, status):
    s = judged(*verdicts)
    assert s.status is status
    assert list(s.verdicts.values()) == list(verdicts)


def test_a_partial_failure_says_how_many_got_it_and_who_did_not():
    assert judged(YES, NEVER).errors == ("to1@example.org: 550 5.1.1 no such user", "1 of 2 recipients got it")


def test_who_took_it_in_an_earlier_attempt_counts_as_accepted():
    s = judged(YES, earlier={"first@example.org": YES})
    assert (s.status, s.verdicts) == (Status.SENT, None)


def test_the_relays_fault_costs_no_attempt():
    s = settle(
        RelayFault(CLAIM, "relay:25", "connection refused"),
        attempts=2,
        earlier={},
        retry=RetryPolicy(max_attempts=3),
        on_doubt=OnDoubt.HOLD,
        jitter=0,
    )
    assert (s.status, s.attempted, s.tally, s.errors) == (
        Status.PENDING,
        False,
        Tally.RELEASED,
        ("connection refused",),
    )


def test_what_was_not_sent_goes_back_untouched():
    s = settle(NotSent(CLAIM), attempts=0, earlier={}, retry=RetryPolicy(), on_doubt=OnDoubt.HOLD, jitter=0)
    assert (s.status, s.attempted, s.tally) == (Status.PENDING, False, Tally.RELEASED)


def test_the_wait_is_spread_over_half_to_all_of_it_and_has_a_ceiling():
    policy = RetryPolicy(backoff=60, backoff_max=100)
    assert [policy.delay(1, j) for j in (0.0, 0.5)] == [30, 45]
    assert policy.delay(1000, 0.999999) <= 100


def test_a_spool_that_cannot_be_read_costs_no_attempt_and_no_recipient_gets_a_mail_twice():
    earlier = {"to0@example.org": YES}
    fault = ContentFault(CLAIM, "relay:25", "the spool cannot be read")
    retry = RetryPolicy(max_attempts=2)
    s = settle(fault, attempts=1, earlier=earlier, retry=retry, on_doubt=OnDoubt.RESEND, jitter=1.0)
    assert (s.status, s.attempted, s.retry_in, s.verdicts) == (Status.PENDING, False, AWAY_FOR, earlier)
    assert s.errors == ("the spool cannot be read",)


def test_a_file_that_cannot_be_read_now_is_tried_again_and_no_recipient_gets_a_mail_twice():
    earlier = {"to0@example.org": YES}
    retry = RetryPolicy(max_attempts=2, backoff=60, backoff_max=3600)

    def unread(attempts: int) -> Settlement:
        why = ["a.pdf: cannot be read"]
        return unavailable(CLAIM, why, earlier, attempts=attempts, retry=retry, jitter=1.0)

    again, last = unread(0), unread(1)
    assert (again.status, again.attempted, again.retry_in, again.verdicts) == (Status.PENDING, True, 60, earlier)
    assert again.errors == ("a.pdf: cannot be read",)
    assert (last.status, last.retry_in, last.verdicts) == (Status.FAILED, None, earlier)
    assert last.errors == ("a.pdf: cannot be read", "all 2 attempts are used up")
