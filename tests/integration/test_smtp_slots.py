"""Connections under a cap that holds for others too: with few slots a stream works with what it has."""

from __future__ import annotations

import threading

import pytest
from support.fakes import FakeRedisServer, FakeSlots
from support.mails import always, kinds, message
from support.smtpfault import FaultServer, drop

from mailbatch.domain.outcome import Kind, NotSent, RelayFault
from mailbatch.infrastructure.smtp import place
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(place, "NO_SLOT_PAUSE", 0.01)


@pytest.fixture
def redis():
    return FakeRedisServer()


class OneAtATime(FakeSlots):
    """As a server is that serves one request after the other, whichever thread asks."""

    lock = threading.Lock()

    def take(self):
        with self.lock:
            return super().take()

    def give_back(self):
        with self.lock:
            super().give_back()


def slots_of(redis, cap):
    return OneAtATime(redis, "relay", cap, 60)


def transport_to(server, slots, **settings):
    relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=10, data_timeout=10)
    return SmtpTransport(relay, slots=slots, **settings)


def test_there_are_never_more_connections_than_slots(redis):
    most = []

    def count():
        # Who has answered QUIT may take a moment to end.
        parted = {number for number, command in server.commands if command == "QUIT"}
        most.append(sum(one.number not in parted and not one.ended for one in server.sessions))

    def dot(session):
        server.note(count)
        session.ordinary()

    with FaultServer({"dot": dot}) as server:
        transport = transport_to(server, slots_of(redis, 2), connections=4, mails_per_connection=5)
        outcomes = list(transport.send([message() for _ in range(40)], always))
    assert {kind for outcome in outcomes for kind in kinds(outcome).values()} == {Kind.ACCEPTED}
    assert max(most) <= 2
    assert redis.keys == {}


def test_without_a_free_slot_a_mail_waits_for_one(redis):
    others = slots_of(redis, 1)
    assert others.take()
    asked = []

    def permit():
        asked.append(1)
        if len(asked) == 4:
            others.give_back()
        return True

    with FaultServer() as server:
        (outcome,) = transport_to(server, slots_of(redis, 1)).send([message()], permit)
    assert kinds(outcome) == {"ann@example.org": Kind.ACCEPTED}
    assert len(server.sessions) == 1


def test_a_withdrawn_permit_ends_the_wait_for_a_slot(redis):
    assert slots_of(redis, 1).take()
    permits = iter([True, True, True])
    messages = [message() for _ in range(3)]
    with FaultServer() as server:
        outcomes = list(transport_to(server, slots_of(redis, 1)).send(messages, lambda: next(permits, False)))
    assert outcomes == [NotSent(m.claim) for m in messages]
    assert server.sessions == []


@pytest.mark.parametrize("step", ["connect", "mail", "dot", "quit"])
def test_a_slot_comes_back_however_its_connection_ends(step, redis):
    with FaultServer({step: [drop]}) as server:
        outcomes = list(transport_to(server, slots_of(redis, 1)).send([message(), message()], always))
    assert len(outcomes) == 2
    assert isinstance(outcomes[0], RelayFault) == (step in ("connect", "mail"))
    assert redis.keys == {}


def test_closing_the_stream_gives_all_slots_back(redis):
    with FaultServer() as server:
        stream = transport_to(server, slots_of(redis, 4)).send((message() for _ in range(100)), always)
        next(stream)
        stream.close()
    assert redis.keys == {}
