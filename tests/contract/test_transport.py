"""What every ``Transport`` promises: the fake that use cases are tested with, and the real one against a real relay."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support import smtpfault
from support.fakes import FakeTransport, answered, relay_fault
from support.mails import always, by_claim, kinds, message

from mailbatch.domain.outcome import Kind, NotSent, RelayFault, Replied, Reply, Verdict
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.sending import Transport

REFUSED = Reply(550, "5.1.1 no such user")
DEFERRED = Reply(451, "4.7.1 try later")


@dataclass
class World:
    """A transport, and the senders of the mails that were taken."""

    transport: Transport
    taken: Callable[[], int]
    strict: Transport
    """The same with a window of one mail."""
    held: int = 4
    """Mails that it may have pulled without having told their outcome."""
    alone: bool = True
    """Whether no other mail is in flight on a connection that breaks at the end of one."""


def scripted(message):
    """What the relay of these tests does, by the first letters of a recipient."""
    names = [recipient.partition("@")[0] for recipient in message.envelope.recipients]
    if "closing" in names:
        return relay_fault(message)
    if "vanish" in names:
        return answered(message, Kind.NO_VERDICT, 0, "the relay closed the connection")
    verdicts = {"refuse": Verdict(Kind.REJECTED, REFUSED), "defer": Verdict(Kind.DEFERRED, DEFERRED)}
    accepted = Verdict(Kind.ACCEPTED, Reply(250, "2.0.0 queued"))
    pairs = zip(message.envelope.recipients, names, strict=True)
    return Replied(message.claim, "fake:25", {to: verdicts.get(name, accepted) for to, name in pairs})


def dot(session):
    if any(recipient.startswith("vanish") for recipient in session.recipients):
        smtpfault.drop(session)
    session.ordinary()


def rcpt(session):
    name = session.command.partition("<")[2].partition("@")[0]
    said = {"refuse": str(REFUSED), "defer": str(DEFERRED), "closing": "421 4.3.2 closing"}
    smtpfault.say(said[name])(session) if name in said else session.ordinary()


@pytest.fixture(params=["fake", *smtpfault.OFFERS])
def world(request):
    if request.param == "fake":
        transport = FakeTransport(scripted)
        yield World(transport, lambda: sum(Kind.ACCEPTED in _said(m) for m in transport.messages), transport)
        return
    offer = smtpfault.OFFERS[request.param]
    with smtpfault.FaultServer({"rcpt": rcpt, "dot": dot}, extensions=offer) as server:
        relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=10, data_timeout=10)
        held = {"DATA": 4, "PIPELINING": 4 * 4, "BDAT": 4 * (4 + 2)}[request.param]
        transport = SmtpTransport(relay, connections=4, window=4)
        strict = SmtpTransport(relay, connections=4, window=1)
        yield World(transport, lambda: len(server.journal), strict, held, alone=request.param != "BDAT")


def _said(message):
    outcome = scripted(message)
    return {verdict.kind for verdict in outcome.verdicts.values()} if isinstance(outcome, Replied) else set()


def send(world, messages, permit=always):
    return by_claim(world.transport.send(messages, permit))


def test_nothing_in_nothing_out(world):
    assert list(world.transport.send([], always)) == []


def test_each_message_has_one_outcome(world):
    names = ["ann", "refuse", "defer", "closing", "vanish"] * 5
    messages = [message(f"{name}@example.org") for name in names]
    outcomes = send(world, messages)
    assert outcomes.keys() == {m.claim for m in messages}
    accepted = sum(isinstance(o, Replied) and Kind.ACCEPTED in kinds(o).values() for o in outcomes.values())
    assert accepted <= world.taken()
    assert accepted == world.taken() == 5 or not world.alone


def test_what_the_relay_took_is_accepted(world):
    one = message("ann@example.org", "bob@example.org")
    assert kinds(send(world, [one])[one.claim]) == {
        "ann@example.org": Kind.ACCEPTED,
        "bob@example.org": Kind.ACCEPTED,
    }


def test_each_recipient_has_its_own_verdict(world):
    one = message("refuse@example.org", "ann@example.org", "defer@example.org")
    outcome = send(world, [one])[one.claim]
    assert kinds(outcome) == {
        "refuse@example.org": Kind.REJECTED,
        "ann@example.org": Kind.ACCEPTED,
        "defer@example.org": Kind.DEFERRED,
    }
    assert outcome.verdicts["refuse@example.org"].reply == REFUSED
    assert outcome.verdicts["defer@example.org"].reply == DEFERRED
    assert world.taken() == 1


def test_a_lost_reply_after_the_dot_is_no_verdict(world):
    one = message("vanish@example.org")
    outcome = send(world, [one])[one.claim]
    assert kinds(outcome) == {"vanish@example.org": Kind.NO_VERDICT}
    reply = outcome.verdicts["vanish@example.org"].reply
    assert reply.code == 0
    assert reply.text


def test_a_relay_that_is_closing_is_its_own_fault(world):
    one = message("closing@example.org")
    outcome = send(world, [one])[one.claim]
    assert isinstance(outcome, RelayFault)
    assert outcome.reason
    assert not outcome.hopeless


def test_one_bad_mail_leaves_the_others_alone(world):
    messages = [message("ann@example.org"), message("refuse@example.org"), message("bob@example.org")]
    outcomes = send(world, messages)
    assert [set(kinds(outcomes[m.claim]).values()) for m in messages] == [
        {Kind.ACCEPTED},
        {Kind.REJECTED},
        {Kind.ACCEPTED},
    ]


def test_without_a_permit_nothing_goes_out(world):
    messages = [message() for _ in range(10)]
    outcomes = send(world, messages, lambda: False)
    assert all(isinstance(outcomes[m.claim], NotSent) for m in messages)
    assert world.taken() == 0


def test_a_permit_withdrawn_in_the_middle_stops_what_is_not_yet_on_the_wire(world):
    stop = threading.Event()
    messages = [message() for _ in range(100)]
    outcomes = {}
    for outcome in world.transport.send(messages, lambda: not stop.is_set()):
        outcomes[outcome.claim] = outcome
        if len(outcomes) == 10:
            stop.set()
    answered = sum(isinstance(o, Replied) for o in outcomes.values())
    assert outcomes.keys() == {m.claim for m in messages}
    assert 10 <= answered <= 10 + world.held
    assert world.taken() == answered


def test_the_last_look_is_asked_once_for_each_mail_before_it_is_taken(world):
    messages = [message(f"{name}@example.org") for name in ["ann", "vanish"] * 5]
    looked = []

    def commit_intent(claims):
        assert world.taken() <= len(looked)
        looked.extend(claims)
        return set(claims)

    outcomes = by_claim(world.strict.send(messages, always, commit_intent))
    assert sorted(looked, key=str) == sorted((m.claim for m in messages), key=str)
    said = [kinds(outcomes[m.claim]).popitem()[1] for m in messages]
    assert said == [Kind.ACCEPTED, Kind.NO_VERDICT] * 5


def test_what_the_last_look_does_not_answer_is_not_sent(world):
    messages = [message() for _ in range(6)]
    wanted = {m.claim for m in messages[:3]}
    outcomes = by_claim(world.strict.send(messages, always, wanted.intersection))
    sent = {claim for claim, outcome in outcomes.items() if isinstance(outcome, Replied)}
    assert sent == wanted
    assert [outcomes[m.claim] for m in messages[3:]] == [NotSent(m.claim) for m in messages[3:]]
    assert world.taken() == 3


def test_messages_are_pulled_no_faster_than_the_wire_goes(world):
    pulled = 0

    def source():
        nonlocal pulled
        for _ in range(50):
            pulled += 1
            yield message()

    for done, _ in enumerate(world.transport.send(source(), always), start=1):
        assert pulled - done <= world.held


def test_an_error_of_the_source_comes_after_the_outcomes_of_what_was_pulled(world):
    def source():
        yield message()
        yield message()
        raise RuntimeError("the database is gone")

    stream = world.transport.send(source(), always)
    outcomes = [next(stream), next(stream)]
    with pytest.raises(RuntimeError, match="the database is gone"):
        next(stream)
    assert len(by_claim(outcomes)) == world.taken() == 2


def test_closing_the_stream_ends_everything(world):
    before = threading.active_count()
    stream = world.transport.send((message() for _ in range(1000)), always)
    next(stream)
    stream.close()
    assert world.taken() < 1000
    assert threading.active_count() <= before + 4  # the relay's own threads may still be on their way out
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("smtp 127")]
