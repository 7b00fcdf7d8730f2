"""Limits for some mails: who may go now, and when the others come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from support.fakes import FakeRateLimits

from mailbatch.application.sending.gates.sending_limits import SendingLimits
from mailbatch.domain.claimed import ClaimedMail
from mailbatch.domain.message import Claim
from mailbatch.domain.rate import Rate
from mailbatch.domain.reservation import Mail
from mailbatch.domain.sending_limit import LimitUnit, Per, SendingLimit
from mailbatch.domain.traits import Match, Names, Traits

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
MAIL = Mail(recipients="a@gmail.com")
GOOGLE = Match(recipient_domain=Names(("gmail.com", "googlemail.com")))


def limit(name="gmail", rate="2/s", match=GOOGLE, **rest):
    return SendingLimit(name=name, rates=tuple(map(Rate.read, rate.split())), match=match, **rest)


class Day:
    """A time, limits, and mails of which each has an index in the order in which it was reserved."""

    def __init__(self, *limits):
        self.seconds = 0.0
        self.traits = {}
        self.claims = {}
        self.gate = SendingLimits(limits, FakeRateLimits(lambda: self.seconds), lambda mail: self.traits[mail.index])

    def group(self, *mails, tag=None):
        """Claim mails: each is a dict of recipients by domain, or the index of a mail that was claimed before."""
        return [self._claim(one, tag) for one in mails]

    def _claim(self, one, tag):
        index = one if isinstance(one, int) else len(self.traits) + 1
        if not isinstance(one, int):
            self.traits[index] = Traits(tag=tag, recipients=one)
        self.claims[index] = self.claims.get(index, 0) + 1
        claim = Claim(UUID(int=index), self.claims[index])
        return ClaimedMail(claim=claim, index=index, mail=MAIL, message_id="<1@example.org>", attempts=0, earlier={})

    def waits(self, mails):
        """Ask the gate; return the seconds for which each mail is held back, 0 for those that may go."""
        now = NOON + timedelta(seconds=self.seconds)
        held = self.gate.ask(mails, now)
        return [round((held[m.claim].at - now).total_seconds(), 2) if m.claim in held else 0 for m in mails]


def gmail(count):
    return [{"gmail.com": 1}] * count


def test_those_of_one_second_go_and_the_others_come_along_the_rate():
    day = Day(limit())
    assert day.waits(day.group(*gmail(5))) == [0, 0, 0.5, 1.0, 1.5]
    assert day.waits(day.group(*gmail(2))) == [2.0, 2.5]


def test_others_are_not_asked_for():
    day = Day(limit())
    assert day.waits(day.group({"example.org": 1}, *gmail(3), {})) == [0, 0, 0, 0.5, 0]


def test_a_mail_that_comes_at_its_time_goes_before_newer_ones_and_is_written_once():
    day = Day(limit())
    day.waits(day.group(*gmail(6)))
    writes = 4
    for second in range(1, 5):
        day.seconds = second * 0.5
        waits = day.waits(day.group({"gmail.com": 1}, 2 + second))
        assert waits[1] == 0
        writes += bool(waits[0])
    assert writes == 8  # each that had to wait was written once


def test_a_domain_has_a_bucket_of_its_own_if_the_limit_is_per_domain():
    day = Day(limit(rate="1/s", match=Match(), per=Per.DOMAIN))
    assert day.waits(day.group({"a.example": 1}, {"b.example": 1}, {"a.example": 1})) == [0, 0, 1.0]


def test_the_strictest_of_several_limits_decides_and_the_others_lose_nothing():
    day = Day(limit(rate="3/s"), limit("news", rate="1/m", match=Match(tag=Names(("news",)))))
    assert day.waits(day.group(*gmail(2), tag="news")) == [0, 60.0]
    assert day.waits(day.group(*gmail(3))) == [0, 0, pytest.approx(0.33, abs=0.01)]


def test_a_mail_to_two_domains_counts_at_each():
    day = Day(limit(rate="1/s", match=Match(), per=Per.DOMAIN))
    assert day.waits(day.group({"a.example": 1, "b.example": 1}, {"b.example": 1})) == [0, 1.0]


def test_recipients_count_if_the_limit_counts_recipients():
    day = Day(limit(rate="10/s", count=LimitUnit.RECIPIENTS))
    many = {"gmail.com": 6, "googlemail.com": 3, "example.org": 90}
    assert day.waits(day.group(many, *gmail(2))) == [0, 0, pytest.approx(0.1)]


def test_all_rates_of_a_limit_hold():
    day = Day(limit(rate="5/s 30/m"))
    assert day.waits(day.group(*gmail(3))) == [0, 2.0, 4.0]


def test_a_mail_that_may_go_counts_once_however_often_the_gate_is_asked():
    day = Day(limit(rate="2/m"))
    first, *_ = group = day.group(*gmail(2))
    assert day.waits(group) == [0, 30.0]
    day.seconds = 1.0
    assert day.waits([first]) == [0]
    day.seconds = 30.0
    assert day.waits(day.group(2)) == [0]


def test_a_mail_says_what_it_waits_for():
    day = Day(limit())
    held = day.gate.ask(day.group(*gmail(3)), NOON)
    assert [one.reason for one in held.values()] == ["the limit gmail"]
