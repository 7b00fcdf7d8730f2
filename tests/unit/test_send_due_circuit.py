"""A lane and a relay that stays away: ticks leave it alone for a while, then one mail probes it before all others."""

from __future__ import annotations

import pytest
from support.fake_backlog import FakeBacklog
from support.fake_stores import FakeCircuits, FakeRun, plain_message
from support.fakes import FakeTransport, accepted, answered, relay_fault

from mailbatch.application.sending.relay_health.circuit_breaker import CircuitBreaker
from mailbatch.application.sending.send_due import SendDue
from mailbatch.domain.circuit import CircuitPolicy, CircuitState
from mailbatch.domain.errors import ResourceAway, RunFailed
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.outcome import Kind, RelayFault
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import Counts, Trigger

NAME = "fake:25"


class World:
    """A backlog, a relay that does what ``script`` says, its circuit, and runs."""

    def __init__(self, mails: int) -> None:
        self.backlog = FakeBacklog()
        self.circuits = FakeCircuits(self.backlog.tables)
        self.transport = FakeTransport()
        for _ in range(mails):
            self.backlog.reserve()

    def run(self, script=accepted, trigger=Trigger.BEAT, *, strict=False, compose=plain_message) -> FakeRun:
        """Run as ``send-all`` does: the probe, then the lane."""
        self.transport = FakeTransport(script)
        send_due = SendDue(
            backlog=self.backlog,
            compose=compose,
            transport=self.transport,
            clock=self.backlog.clock,
            jitter=lambda: 0.5,
            retry=RetryPolicy(max_attempts=3),
            on_doubt=OnDoubt.RESEND,
            group_size=4,
            page_size=10,
            lease=self.backlog.lease,
            strict=strict,
            relay_faults=5,
            circuit_breaker=CircuitBreaker(
                circuits=self.circuits, relay=NAME, policy=CircuitPolicy(first=100, longest=250), jitter=lambda: 1.0
            ),
        )
        run = FakeRun(trigger=trigger)
        send_due.probe(run)
        send_due(run)
        return run

    def state(self) -> CircuitState:
        return self.circuits.look(NAME).state


def refused(message):
    return relay_fault(message, "connection refused")


@pytest.fixture
def world() -> World:
    return World(20)


@pytest.fixture
def away(world) -> World:
    """Return the world after a run that found the relay away."""
    with pytest.raises(RunFailed, match="the relay is away: fake:25: connection refused"):
        world.run(refused)
    return world


def test_a_run_that_finds_the_relay_away_opens_its_circuit_and_a_tick_leaves_it_alone(away):
    assert away.state() is CircuitState.OPEN
    with pytest.raises(RunFailed, match=r"the relay fake:25 is left alone until .* UTC: connection refused"):
        away.run()
    assert away.transport.messages == []


def test_a_run_by_hand_probes_at_once_and_all_is_sent_once_when_the_relay_is_back(away):
    run = away.run(trigger=Trigger.MANUAL)
    assert run.counts == Counts(sent=20)
    assert away.state() is CircuitState.CLOSED
    assert len({m.claim.reservation_id for m in away.transport.messages}) == 20


def test_the_next_tick_after_the_time_sends_one_mail_to_find_out(away):
    away.backlog.clock.now += 100
    with pytest.raises(RunFailed, match="the relay is away"):
        away.run(refused)
    assert len(away.transport.messages) == 1
    assert away.backlog.pages[-1] == 1  # a crash of the probe leaves one mail in doubt, not a group
    assert away.circuits.look(NAME).failures == 2
    assert {row.status for row in away.backlog.rows.values()} == {Status.PENDING}
    assert {row.attempts for row in away.backlog.rows.values()} == {0}


def test_three_ticks_against_a_relay_that_is_away_and_a_fourth_when_it_is_back_send_all_once(away):
    for _ in range(2):
        away.backlog.clock.now += 300
        with pytest.raises(RunFailed):
            away.run(refused)
    away.backlog.clock.now += 300
    assert away.run().counts == Counts(sent=20)


def test_the_probe_of_a_strict_lane_is_on_the_wire_only_once_its_intent_is_committed(away):
    away.backlog.strict = True
    on_wire = []

    def script(message):
        on_wire.append(sum(row.wire_at is not None for row in away.backlog.rows.values()))
        return accepted(message)

    assert away.run(script, Trigger.MANUAL, strict=True).counts == Counts(sent=20)
    assert on_wire[0] == 1


def test_a_refusal_of_the_probe_itself_is_an_answer(away):
    first = []

    def script(message):
        first.append(message)
        return answered(message, Kind.REJECTED, 550, "5.1.1 no") if len(first) == 1 else accepted(message)

    assert away.run(script, Trigger.MANUAL).counts == Counts(sent=19, failed=1)
    assert away.state() is CircuitState.CLOSED


def test_a_mail_in_whose_dialogue_the_relay_breaks_does_not_keep_the_circuit_open(away):
    poison = min(away.backlog.rows)

    def script(message):
        if message.claim.reservation_id == poison:
            return RelayFault(message.claim, NAME, "lost in the body", in_dialogue=True)
        return accepted(message)

    run = away.run(script, Trigger.MANUAL)
    assert run.counts == Counts(sent=19, deferred=1)
    assert away.state() is CircuitState.CLOSED


def test_a_probe_to_whose_end_nothing_is_said_keeps_the_circuit_open(away):
    with pytest.raises(RunFailed, match="the relay is away"):
        away.run(lambda m: answered(m, Kind.NO_VERDICT, 0, "the connection broke"), Trigger.MANUAL)
    assert len(away.transport.messages) == 1
    assert away.state() is CircuitState.OPEN


def test_nothing_due_leaves_the_circuit_to_the_next_mail(away):
    for own in away.backlog.rows:
        away.backlog.change(own, status=Status.CANCELLED)
    assert away.run(trigger=Trigger.MANUAL).counts == Counts()
    assert away.state() is CircuitState.HALF_OPEN
    away.backlog.reserve()
    assert away.run().counts == Counts(sent=1)
    assert away.state() is CircuitState.CLOSED


def test_a_relay_that_takes_nothing_for_reasons_of_its_own_is_not_asked_for_every_mail(world):
    with pytest.raises(RunFailed, match=r"452 4\.3\.1 no space"):
        world.run(lambda m: answered(m, Kind.DEFERRED, 452, "4.3.1 no space"))
    assert len(world.transport.messages) == 5
    assert world.state() is CircuitState.OPEN


def test_the_time_that_a_relay_asks_for_is_the_time_for_which_it_is_left_alone(world):
    with pytest.raises(RunFailed):
        world.run(lambda m: answered(m, Kind.DEFERRED, 451, "4.7.28 too fast, try again in 2000 seconds"))
    assert world.circuits.look(NAME).seconds_left == 2000


def test_deferrals_of_single_recipients_are_no_reason_to_leave_the_relay_alone(world):
    run = world.run(lambda m: answered(m, Kind.DEFERRED, 450, "4.2.0 Greylisted"))
    assert run.counts == Counts(deferred=20)
    assert world.state() is CircuitState.CLOSED


def test_a_probe_whose_folder_is_away_says_nothing_of_the_relay_and_the_next_mail_probes_it():
    world = World(mails=5)
    world.circuits.open(NAME, "refused", 0)
    away = world.backlog.reserve(priority=9)

    def compose(claimed):
        if claimed.claim.reservation_id == away:
            raise ResourceAway(["attachments: the folder /srv/files is empty; is its file system mounted?"])
        return plain_message(claimed)

    run = world.run(compose=compose)
    assert world.state() is CircuitState.CLOSED
    assert run.counts == Counts(sent=5)
    assert (world.backlog.rows[away].status, world.backlog.rows[away].attempts) == (Status.PENDING, 0)
    assert run.fault is not None
