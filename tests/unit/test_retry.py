"""When a mail comes back: by what the relay said, and always within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbatch.domain.outcome import Reply
from mailbatch.domain.reply_kinds import hinted, kind_of
from mailbatch.domain.retry import SHORTEST_HINT, RetryPolicy

POLICY = RetryPolicy(max_attempts=5, backoff=60, backoff_max=7200)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (
            450,
            "4.2.0 <a@b.example>: Recipient address rejected: Greylisted, see http://postgrey.example/",
            "greylisted",
        ),
        (451, "4.7.1 Try again later", "policy"),
        (451, "4.7.1 Greylisting in action, please come back in 00:04:59", "greylisted"),
        (452, "4.5.3 Too many recipients", "too many recipients"),
        (452, "Too many recipients received this hour, see you", "hour's quota"),
        (450, "4.7.28 Our system has detected an unusual rate of mail", "rate limited"),
        (451, "4.7.1 Too many messages, please try again later", "rate limited"),
        (450, "4.4.5 congestion", "rate limited"),
        (452, "4.2.2 Mailbox full", "mailbox full"),
        (452, "The mailbox of this user is over quota", "mailbox full"),
        (450, "4.2.1 The user is receiving too many messages right now", "recipient's rate"),
        (450, "mailbox busy", "mailbox"),
        (450, "4.1.8 Sender address rejected: Domain not found", "mailbox"),
        (452, "4.3.1 Insufficient system storage", "relay's storage"),
        (452, "no space left", "relay's storage"),
        (421, "the relay broke 3 times", "relay's system"),
        (451, "4.4.1 no answer from host", "network"),
        (451, "4.7.5 policy", "policy"),
        (451, "later", "other"),
        (499, "4.6.1 hm", "other"),
    ],
)
def test_a_reply_is_known_by_its_enhanced_code_its_code_or_its_words(code, text, kind):
    assert kind_of(Reply(code, text)).name == kind


@pytest.mark.parametrize("attempts", [1, 2, 5, 40])
def test_a_greylisted_mail_comes_back_within_five_to_ten_minutes_however_often_it_was_put_off(attempts):
    reply = Reply(450, "4.2.0 Greylisted")
    assert POLICY.delay_after(reply, attempts, 0.0) == 300
    assert POLICY.delay_after(reply, attempts, 1.0) == 600


def test_who_waits_shorter_waits_shorter_with_every_kind():
    hasty = RetryPolicy(max_attempts=5, backoff=1, backoff_max=7200)
    assert hasty.delay_after(Reply(450, "4.2.0 Greylisted"), 1, 1.0) == 10
    assert hasty.delay_after(Reply(452, "4.2.2 full"), 1, 1.0) == 60


def test_a_full_mailbox_is_waited_for_longer_and_too_many_recipients_only_shortly():
    assert POLICY.delay_after(Reply(452, "4.2.2 full"), 1, 1.0) == 3600
    assert POLICY.delay_after(Reply(452, "4.5.3 Too many recipients"), 5, 1.0) == 60


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 Greylisted, try again in 300 seconds", 300),
        ("please retry after 5 minutes", 300),
        ("Try again in 1 hour.", 3600),
        ("Greylisted for 2 mins", 120),
        ("come back in 00:04:30 please", 270),
        ("retry=01:00:00", 3600),
        ("please wait 30s", 30),
        ("4.7.1 try again later", None),
        ("4.3.0 error 12345 seconds lost", None),
        ("try again, 5 messages are waiting", None),
        ("4.7.1 try again later [2001:db8:0:12:34::1]", None),
        ("4.7.1 Try again later (07:45:12 mx1)", None),
        ("4.7.1 busy, try again at 14:30", None),
    ],
)
def test_a_time_that_the_relay_names_is_read(text, seconds):
    assert hinted(Reply(451, text)) == seconds


def test_a_relay_that_says_later_is_not_asked_before_that():
    wait = POLICY.delay_after(Reply(451, "try again in 50 minutes"), 1, 0.0)
    assert wait == 3000


def test_a_relay_that_says_sooner_is_believed_twice():
    soon = Reply(451, "4.7.0 try again in 5 seconds")
    assert [POLICY.delay_after(soon, n, 0.0) for n in (1, 2, 3)] == [5, 5, 120]
    assert POLICY.delay_after(Reply(451, "try again in 0 seconds"), 1, 0.0) == SHORTEST_HINT


replies = st.builds(
    Reply,
    st.sampled_from([421, 450, 451, 452, 454, 471]),
    st.one_of(
        st.text(max_size=80),
        st.builds(
            "{} {} try again in {} {}".format,
            st.from_regex(r"4\.[0-9]\.[0-9]{1,2}", fullmatch=True),
            st.sampled_from(["", "Greylisted,", "mailbox full;", "rate limited,"]),
            st.integers(0, 999_999),
            st.sampled_from(["s", "seconds", "min", "minutes", "hours"]),
        ),
    ),
)


@given(
    reply=replies,
    attempts=st.integers(0, 10_000),
    jitter=st.floats(0, 1, exclude_max=True),
    backoff=st.floats(0.01, 86_400),
    times=st.floats(1, 1000),
)
def test_the_wait_is_always_more_than_nothing_and_never_more_than_the_longest(reply, attempts, jitter, backoff, times):
    policy = RetryPolicy(backoff=backoff, backoff_max=backoff * times)
    wait = policy.delay_after(reply, attempts, jitter)
    assert min(0.5 * backoff, SHORTEST_HINT, 0.5 * 60) <= wait <= policy.backoff_max


@given(reply=replies, attempts=st.integers(1, 20), jitter=st.floats(0, 1, exclude_max=True))
def test_no_mail_goes_before_the_time_that_the_relay_named_unless_that_is_beyond_the_longest(reply, attempts, jitter):
    hint = hinted(reply)
    wait = POLICY.delay_after(reply, attempts, jitter)
    assert hint is None or wait >= min(hint, POLICY.backoff_max)
