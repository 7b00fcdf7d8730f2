"""How many mails a lane may hold, at relays of many kinds; and that urgent mail goes before what is claimed later."""

from __future__ import annotations

import pytest
from support.fake_backlog import FakeBacklog
from support.fake_stores import FakeRun, plain_message
from support.fakes import FakeTransport, accepted

from mailbatch.application.ports.sending import Nap
from mailbatch.application.sending.in_flight_limit import HORIZON, InFlightLimit, Urgency
from mailbatch.application.sending.send_due import SendDue
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import Counts

GROUP = 128


def steady(
    limit: InFlightLimit, *, rate: float = 1e9, latency: float = 0.0, seconds: float = 20.0, group: int = 128
) -> float:
    """Let a lane claim as it does. The relay takes ``rate`` mails a second, and each takes ``latency`` at least.

    Return the mails a second at the end.
    """
    now, step, held, settled, before = 0.0, 0.01, 0.0, 0.0, 0.0
    while now < seconds:
        now += step
        went = min(held, step * min(rate, held / latency if latency else rate))
        held, settled = held - went, settled + went
        limit.update(int(settled), round(held), group, now)
        if 2 * held <= limit.limit:
            held = float(limit.limit)
        before = before if now < seconds - 2 else before + went
    return before / 2


@pytest.mark.parametrize("rate", [50, 100, 200])
def test_a_slow_relay_gets_the_mails_of_a_short_time_and_is_kept_busy(rate):
    limit = InFlightLimit(16, GROUP, 0.0)
    assert steady(limit, rate=rate) == pytest.approx(rate, rel=0.05)
    assert limit.limit / rate <= 2 * HORIZON


def test_a_very_slow_relay_gets_what_its_connections_need():
    limit = InFlightLimit(16, GROUP, 0.0)
    steady(limit, rate=2, seconds=60)
    assert limit.limit == 16


@pytest.mark.parametrize("latency", [0.0, 0.05, 0.6])
def test_a_fast_relay_gets_two_whole_groups_however_far_away_it_is(latency):
    limit = InFlightLimit(16, GROUP, 0.0)
    steady(limit, rate=3000, latency=latency)
    assert limit.limit == 256


def test_a_group_of_one_mail_for_each_connection_is_claimed_while_another_is_on_the_wire():
    limit = InFlightLimit(16, 4, 0.0)
    steady(limit, rate=2, seconds=60, group=4)
    assert limit.limit == 8


def test_more_connections_get_more_mails_at_a_very_slow_relay():
    limit = InFlightLimit(16, GROUP, 0.0)
    steady(limit, rate=2, seconds=60, group=5 * GROUP)
    assert limit.limit == 5 * 16


def test_a_relay_that_becomes_fast_gets_whole_groups_at_once():
    limit = InFlightLimit(16, GROUP, 0.0)
    steady(limit, rate=20)
    limit._at = 0.0
    steady(limit, rate=3000, seconds=2)
    assert limit.limit == 256


def lane(backlog: FakeBacklog, transport: FakeTransport, urgent_from: int | None) -> SendDue:
    return SendDue(
        backlog=backlog,
        compose=plain_message,
        transport=transport,
        clock=backlog.clock,
        jitter=lambda: 0.5,
        retry=RetryPolicy(max_attempts=3),
        on_doubt=OnDoubt.RESEND,
        group_size=4,
        page_size=10,
        lease=backlog.lease,
        urgent=None if urgent_from is None else Urgency(urgent_from, least_in_flight=8),
    )


@pytest.mark.parametrize(("urgent_from", "place"), [(10, 8), (None, 24)])
def test_urgent_mail_goes_before_what_is_claimed_later(urgent_from, place):
    backlog, came = FakeBacklog(), []
    for _ in range(40):
        backlog.reserve()

    def one_mail_in_a_fifth_of_a_second(message):
        backlog.clock.sleep(0.2)
        if len(transport.messages) == 4:
            came.append(backlog.reserve(priority=10))
        return accepted(message)

    transport = FakeTransport(one_mail_in_a_fifth_of_a_second)
    run = FakeRun()
    lane(backlog, transport, urgent_from)(run)
    assert run.counts == Counts(sent=41)
    sent = [message.claim.reservation_id for message in transport.messages]
    assert abs(sent.index(came[0]) - place) <= 4


def test_a_lane_whose_last_mail_takes_long_sends_urgent_mail_meanwhile():
    backlog = FakeBacklog()
    backlog.reserve()
    seen = []

    class Slow:
        """Answers the first mail only when an urgent one has come; a nap passes as such."""

        capacity = 0

        def send(self, messages, permit, commit_intent=None):
            held = []
            for message in messages:
                if isinstance(message, Nap):
                    backlog.clock.sleep(message.seconds)
                    if not seen:
                        seen.append(backlog.reserve(priority=10))
                    continue
                held.append(message)
                if seen:
                    yield from (accepted(one) for one in held)
                    held.clear()

    run = FakeRun()
    lane(backlog, Slow(), 10)(run)
    assert run.counts == Counts(sent=2)
