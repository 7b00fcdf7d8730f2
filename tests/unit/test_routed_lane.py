"""A lane with several relays: which of them gets a mail, and what becomes of mails whose relay is away or slow."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from support.fake_backlog import FakeBacklog
from support.fake_stores import FakeCircuits, FakeRun, plain_message
from support.fakes import FakeTransport, FakeTransports, accepted, answered, relay_fault

from mailbatch.application.sending.in_flight_limit import Urgency
from mailbatch.application.sending.relay_health.circuit_breaker import CircuitBreaker
from mailbatch.application.sending.routing.read_traits import ReadTraits
from mailbatch.application.sending.routing.routed_lane import SeveralRelays
from mailbatch.application.sending.routing.routed_relay import Way
from mailbatch.application.sending.send_due import SendDue
from mailbatch.domain.circuit import CircuitPolicy, CircuitState
from mailbatch.domain.errors import RunFailed
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.outcome import Kind
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.routes import Route
from mailbatch.domain.run import Trigger
from mailbatch.domain.traits import Match, Names, PriorityIs
from mailbatch.infrastructure.mime.addresses import read_addresses
from mailbatch.infrastructure.mime.message_envelope import message_author

FAILOVER = (Route(relays=("one", "two")),)
BY_TAG = (Route(match=Match(tag=Names(("news-*",))), relays=("two",)), Route(relays=("one",)))


class World:
    """A backlog, two relays that do what ``script`` says of each, their circuits, and runs."""

    def __init__(self, routes=FAILOVER, mails=0):
        self.backlog = FakeBacklog()
        self.circuits = FakeCircuits(self.backlog.tables)
        self.transports = FakeTransports()
        self.routes = routes
        for _ in range(mails):
            self.backlog.reserve()

    def run(self, script=None, trigger=Trigger.BEAT, lane=0, *, most=8, holds=None, strict=False) -> FakeRun:
        """Run as ``send-all`` does: the probe, then the lane."""
        clock = self.backlog.clock
        self.transports = FakeTransports(script, clock.sleep, holds)
        policy = CircuitPolicy(first=100, longest=250)
        ways = [
            Way(
                name=name,
                circuit_breaker=CircuitBreaker(circuits=self.circuits, relay=name, policy=policy, jitter=lambda: 1.0),
                slots=None,
                faults=5,
                most=most,
            )
            for name in ("one", "two")
        ]
        traits = ReadTraits(read_addresses=read_addresses, author_of=message_author, sender=None, redirect_all_to=None)
        send_due = SendDue(
            backlog=self.backlog,
            compose=plain_message,
            transport=FakeTransport(),
            clock=clock,
            jitter=lambda: 0.5,
            retry=RetryPolicy(max_attempts=3),
            on_doubt=OnDoubt.RESEND,
            group_size=4,
            page_size=10,
            lease=self.backlog.lease,
            strict=strict,
            urgent=Urgency(10, 4),
            several=SeveralRelays(ways=ways, routes=self.routes, read_traits=traits, transports=self.transports),
        )
        run = FakeRun(trigger=trigger)
        if lane == 0:
            send_due.probe(run)
        send_due(run, lane=lane)
        return run

    def sent_by(self) -> Counter[str]:
        return Counter(relay for relay, _ in self.transports.sent)

    def states(self) -> Counter[str]:
        return Counter(row.status for row in self.backlog.rows.values())

    def attempts(self) -> int:
        return sum(row.attempts for row in self.backlog.rows.values())


def only(name, outcome):
    """Return a script: ``outcome`` makes what the relay ``name`` does; the others accept."""
    return lambda relay, message: outcome(message) if relay == name else accepted(message, relay)


def down(message, relay="one"):
    return relay_fault(message, "connection refused", relay)


def both_down(relay, message):
    return down(message, relay)


def test_while_all_is_well_each_mail_goes_by_the_first_relay_of_its_route():
    world = World(mails=20)
    run = world.run()
    assert world.sent_by() == {"one": 20}
    assert run.counts.sent == 20


def test_routes_go_by_tag_priority_and_the_domains_of_sender_and_recipients():
    two = ("two",)
    world = World(
        (
            Route(match=Match(tag=Names(("news-*",))), relays=two),
            Route(match=Match(priority=PriorityIs(">=", 10)), relays=two),
            Route(match=Match(sender_domain=Names(("shop.example",))), relays=two),
            Route(match=Match(recipient_domain=Names(("gmail.com",))), relays=two),
            Route(relays=("one",)),
        )
    )
    expected = {
        world.backlog.reserve(tag="news-1"): "two",
        world.backlog.reserve(priority=10): "two",
        world.backlog.reserve(sender="Shop <x@Shop.example>"): "two",
        world.backlog.reserve(recipients="a@b.example, c@GMAIL.com"): "two",
        world.backlog.reserve(message=b"From: x@shop.example\r\nSubject: s\r\n\r\nt\r\n"): "two",
        world.backlog.reserve(tag="news"): "one",
        world.backlog.reserve(priority=9, sender="x@example.org", body_text="large" * 1000): "one",
    }
    world.run()
    assert {message.claim.reservation_id: relay for relay, message in world.transports.sent} == expected


@pytest.mark.parametrize("strict", [False, True])
def test_mails_go_by_the_next_relay_when_the_first_is_down_and_none_uses_an_attempt(strict):
    world = World(mails=30)
    run = world.run(only("one", down), strict=strict)
    assert world.states() == {Status.SENT: 30}
    assert world.sent_by()["two"] == 30
    assert world.attempts() == 30
    assert run.fault is None
    assert world.circuits.look("one").state is CircuitState.OPEN
    assert world.circuits.look("two").state is CircuitState.CLOSED


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (421, "4.3.2 system not accepting network messages"),
        (452, "4.3.1 insufficient system storage"),
        (454, "4.7.0 Throttling failure: Daily message quota exceeded."),
        (550, "5.4.5 Daily user sending limit exceeded"),
        (535, "5.7.8 this account is suspended"),
    ],
)
def test_mails_go_by_the_next_relay_when_the_first_takes_no_mail_for_its_own_reasons(code, text):
    world = World(mails=30)
    world.run(only("one", lambda m: answered(m, Kind.DEFERRED if code < 500 else Kind.REJECTED, code, text, "one")))
    assert world.states() == {Status.SENT: 30}
    assert world.sent_by()["two"] == 30
    assert world.attempts() == 30


def test_a_mail_that_met_a_fault_of_its_relay_goes_by_the_next_although_the_relay_is_not_away():
    world = World(mails=3)
    first = next(iter(world.backlog.rows))

    def script(relay, message):
        broken = relay == "one" and message.claim.reservation_id == first
        fault = replace(relay_fault(message, "reset", relay), in_dialogue=True)
        return fault if broken else accepted(message, relay)

    world.run(script)
    assert world.states() == {Status.SENT: 3}
    assert world.sent_by() == {"one": 3, "two": 1}
    assert world.circuits.look("one").state is CircuitState.CLOSED


def test_a_tick_leaves_a_relay_alone_and_the_others_go_on():
    world = World(mails=10)
    world.run(only("one", down))
    for _ in range(5):
        world.backlog.reserve()
    world.run()
    assert world.sent_by() == {"two": 5}


def test_a_relay_that_is_back_gets_one_mail_as_the_probe_and_then_all():
    world = World(mails=10)
    world.run(only("one", down))
    world.backlog.clock.sleep(101)
    for _ in range(20):
        world.backlog.reserve()
    world.run()
    assert world.states() == {Status.SENT: 30}
    assert world.circuits.look("one").state is CircuitState.CLOSED
    assert world.sent_by()["one"] > 10


def test_a_relay_comes_back_within_a_long_run():
    world = World(mails=10)
    answers = []

    def script(relay, message):
        if relay == "two":
            world.backlog.clock.sleep(1)
            if len(world.backlog.rows) < 300:
                world.backlog.reserve()
            return accepted(message, relay)
        answers.append(world.backlog.clock.monotonic())
        return down(message) if len(answers) == 1 else accepted(message, relay)

    world.run(script)
    assert world.states() == {Status.SENT: len(world.backlog.rows)}
    assert len(answers) > 2
    assert answers[1] - answers[0] >= 100


def test_both_down_loses_nothing_and_uses_no_attempt_and_the_run_says_why():
    world = World(mails=20)
    with pytest.raises(RunFailed, match=r"the relay is away: one: connection refused; .*: two: connection refused"):
        world.run(both_down)
    assert world.states() == {Status.PENDING: 20}
    assert world.attempts() == 0


def test_while_both_are_left_alone_no_mail_is_claimed_and_then_each_gets_one_probe():
    world = World(mails=20)
    with pytest.raises(RunFailed):
        world.run(both_down)
    pages = len(world.backlog.pages)
    with pytest.raises(RunFailed, match="the relay is away: one"):
        world.run()
    assert len(world.backlog.pages) == pages
    world.backlog.clock.sleep(101)
    with pytest.raises(RunFailed):
        world.run(both_down)
    assert max(world.sent_by().values()) == 1
    assert world.states() == {Status.PENDING: 20}
    assert world.attempts() == 0


def test_after_both_were_down_the_probes_bring_all_mails_out():
    world = World(mails=20)
    with pytest.raises(RunFailed):
        world.run(both_down)
    world.backlog.clock.sleep(101)
    world.run()
    assert world.states() == {Status.SENT: 20}


def test_a_run_by_hand_probes_at_once():
    world = World(mails=20)
    with pytest.raises(RunFailed):
        world.run(both_down)
    world.run(trigger=Trigger.MANUAL)
    assert world.states() == {Status.SENT: 20}


def test_mails_that_only_a_relay_takes_that_is_away_wait_and_the_others_go():
    world = World(BY_TAG)
    news = [world.backlog.reserve(tag="news-1") for _ in range(20)]
    for _ in range(20):
        world.backlog.reserve()
    run = world.run(only("two", lambda m: down(m, "two")))
    assert run.counts.sent == 20
    assert world.states() == {Status.SENT: 20, Status.PENDING: 20}
    assert world.attempts() == 20
    assert run.fault is not None
    assert "two: connection refused" in run.fault
    # They come due when the relay may be probed, one behind the other.
    due = sorted(world.backlog.rows[own].due_at for own in news)
    assert (due[0] - world.backlog.tables.now).total_seconds() > 50
    world.backlog.clock.sleep(300)
    world.run()
    assert world.states() == {Status.SENT: 40}


def test_a_slow_relay_holds_no_mail_of_another():
    world = World(BY_TAG)
    for _ in range(200):
        world.backlog.reserve(tag="news-1")
    for _ in range(20):
        world.backlog.reserve()
    order = []

    def script(relay, message):
        if relay == "two":
            world.backlog.clock.sleep(0.2)
        order.append(relay)
        return accepted(message, relay)

    world.run(script, holds={"two": 4})
    assert world.states() == {Status.SENT: 220}
    assert Counter(order[:80])["one"] == 20
    assert world.attempts() == 220


def test_a_mail_that_waits_for_a_slow_relay_is_written_few_times():
    world = World(BY_TAG)
    for _ in range(300):
        world.backlog.reserve(tag="news-1")
    world.backlog.reserve()

    def script(relay, message):
        world.backlog.clock.sleep(0.1)
        return accepted(message, relay)

    world.run(script, holds={"two": 4})
    claims = [row.claim_no for row in world.backlog.rows.values()]
    assert sum(claims) / len(claims) < 3
    assert max(claims) < 8


def test_urgent_mail_goes_before_what_waits_for_its_relay():
    world = World(BY_TAG)
    for _ in range(60):
        world.backlog.reserve(tag="news-1")
    order = []

    def script(relay, message):
        world.backlog.clock.sleep(1.5)
        if not order:
            urgent.append(world.backlog.reserve(tag="news-1", priority=10))
        order.append(message.claim.reservation_id)
        return accepted(message, relay)

    urgent = []
    world.run(script)
    assert order.index(urgent[0]) < 8


def test_a_lane_that_was_frozen_for_longer_than_its_lease_gives_back_what_waits_and_claims_it_anew():
    world = World(BY_TAG)
    for _ in range(40):
        world.backlog.reserve(tag="news-1")
        world.backlog.reserve()
    frozen = []

    def script(relay, message):
        if len(frozen) < 2:
            frozen.append(relay)
            world.backlog.clock.sleep(world.backlog.lease)
        return accepted(message, relay)

    world.run(script, holds={"two": 2})
    assert world.states() == {Status.SENT: 80}
    assert len(world.transports.sent) <= 80 + 2 * 4


def test_a_helper_sends_no_probe_but_uses_a_relay_again_that_is_back():
    world = World(mails=10)
    world.run(only("one", down))
    world.backlog.clock.sleep(101)
    for _ in range(5):
        world.backlog.reserve()
    world.run(lane=1)
    assert world.sent_by() == {"two": 5}
    world.circuits.close("one")
    for _ in range(5):
        world.backlog.reserve()
    world.run(lane=1)
    assert world.sent_by() == {"one": 5}


def test_a_mail_with_an_address_that_cannot_be_read_has_no_domain_and_goes_by_the_last_route():
    world = World((Route(match=Match(recipient_domain=Names(("*",))), relays=("two",)), Route(relays=("one",))))
    world.backlog.reserve(recipients="nobody at all")
    world.run()
    assert world.sent_by() == {"one": 1}
