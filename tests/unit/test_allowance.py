"""A lane keeps to the rate and the day's quota of its relay, together with all other lanes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from support.fake_stores import FakeQuotas, FakeStop
from support.fakes import FakeRateLimits

from mailbatch.application.sending.lane_stop import LaneStop
from mailbatch.application.sending.relay_health.allowance import Allowance, Allowed
from mailbatch.application.sending.relay_health.health import RelayHealth
from mailbatch.application.sending.relay_health.relay_failures import ConsecutiveFailures
from mailbatch.domain.rate import Rate

FRIDAY = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Street:
    """Lanes to one relay, and a time that goes on only when they nap."""

    def __init__(self, rate="50/s", a_day=None, zone="UTC", weight=1):
        self.seconds = 0.0
        self.answered_at = 0.0
        self.rates = FakeRateLimits(lambda: self.seconds)
        self.quotas = FakeQuotas()
        self.allowed = Allowed(
            relay="ses",
            rates=(Rate.read(rate),) if rate else (),
            a_day=a_day,
            timezone=ZoneInfo(zone),
            counts=lambda _mail: weight,
        )

    def now(self):
        return FRIDAY + timedelta(seconds=self.seconds)

    def lane(self):
        stop = LaneStop(FakeStop())
        health = RelayHealth(stop, ConsecutiveFailures(self, most=16, patience=5.0, most_doubts=8))
        return Allowance(
            allowed=self.allowed,
            rate_limits=self.rates,
            quotas=self.quotas,
            now=self.now,
            stop=stop,
            health=health,
            is_busy=lambda: self.seconds < self.answered_at,
        )

    def monotonic(self):
        return self.seconds

    def goes(self, lane):
        """Send one mail; return when it went, or None if nothing goes any more."""
        for nap in lane.naps(None):
            self.seconds += nap.seconds
        return None if lane.stop.is_set() else round(self.seconds, 3)


def test_a_second_goes_at_once_and_then_the_rate_is_kept():
    street = Street("50/s")
    lane = street.lane()
    times = [street.goes(lane) for _ in range(200)]
    assert times[:50] == [0.0] * 50
    assert times[-1] == pytest.approx(3.0, abs=0.3)


def test_two_lanes_share_one_rate():
    street = Street("20/s")
    lanes = [street.lane(), street.lane()]
    times = [street.goes(lanes[n % 2]) for n in range(120)]
    assert times[-1] == pytest.approx(5.0, abs=0.5)


def test_what_a_lane_did_not_use_goes_to_the_others():
    street = Street("4/h")
    one, other = street.lane(), street.lane()
    list(one.naps(None))
    one._granted += 1
    one.end()
    assert street.goes(other) == 0.0
    one.end()
    assert street.goes(other) == 900.0


def test_a_mail_to_many_counts_for_each_of_them():
    street = Street("10/s", weight=25)
    lane = street.lane()
    assert [street.goes(lane) for _ in range(3)] == pytest.approx([1.5, 4.0, 6.5], abs=0.3)


def test_a_day_that_is_used_up_leaves_the_relay_alone_until_the_next_one_begins_where_the_relay_is():
    street = Street(rate=None, a_day=5, zone="America/New_York")  # it is 7 o'clock there
    lane, other = street.lane(), street.lane()
    assert [street.goes(lane) for _ in range(3)] == [0.0] * 3
    assert [street.goes(other) for _ in range(2)] == [0.0] * 2
    assert street.goes(lane) is None
    outage = lane.stop.outage
    assert outage.told() == ("the relay takes no mail: ses: the 5 of this day are used up (rate in the relays' file)")
    assert outage.least == 17 * 3600
    street.seconds += outage.least
    assert street.goes(street.lane()) == outage.least


def test_the_mails_that_the_relay_has_are_answered_before_it_is_left_alone():
    street = Street(rate=None, a_day=1)
    lane = street.lane()
    street.goes(lane)
    street.answered_at = 2.0
    assert street.goes(lane) is None
    assert street.seconds == pytest.approx(2.0, abs=0.1)


def test_a_lane_that_works_over_midnight_counts_anew():
    street = Street(rate=None, a_day=200, zone="America/New_York")  # a lane takes two at once
    lane = street.lane()
    assert [street.goes(lane) for _ in range(3)] == [0.0] * 3
    street.seconds = 17 * 3600.0
    assert [street.goes(lane) for _ in range(200)] == [street.seconds] * 200
    assert street.goes(lane) is None


def test_a_mail_to_more_than_a_day_allows_takes_a_whole_day_and_the_others_go_on_the_next():
    street = Street(rate=None, a_day=5, weight=300)
    assert street.goes(street.lane()) == 0.0
    assert street.goes(street.lane()) is None
    street.seconds = 12 * 3600.0
    assert street.goes(street.lane()) == street.seconds


def test_what_is_left_of_a_day_is_given_back():
    street = Street(rate=None, a_day=1000)
    lane = street.lane()
    assert [street.goes(lane) for _ in range(3)] == [0.0] * 3
    assert street.quotas.used("ses", FRIDAY.date()) == 10
    lane.end()
    assert street.quotas.used("ses", FRIDAY.date()) == 3


def test_a_mail_that_the_rest_of_the_day_does_not_cover_is_not_sent_and_costs_nothing():
    street = Street(rate=None, a_day=5, weight=3)
    lane = street.lane()
    assert street.goes(lane) == 0.0
    assert street.goes(lane) is None
    lane.end()
    assert street.quotas.used("ses", FRIDAY.date()) == 3
