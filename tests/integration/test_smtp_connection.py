"""The states of one connection: each end has a reason, each slot is given back once, and nothing goes back."""

from __future__ import annotations

import select

import pytest
from support.fakes import FakeRedisServer, FakeSlots
from support.mails import message
from support.smtpfault import FaultServer, say

from mailbatch.infrastructure.smtp.connect_attempt import Waker
from mailbatch.infrastructure.smtp.connection import Connection
from mailbatch.infrastructure.smtp.connection_state import CloseReason, State
from mailbatch.infrastructure.smtp.errors import RelayError
from mailbatch.infrastructure.smtp.place import Place
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport_config import TransportConfig


@pytest.fixture
def waker():
    waker = Waker()
    yield waker
    waker.close()


@pytest.fixture
def slots():
    return FakeSlots(FakeRedisServer(), "relay", 1, 60)


@pytest.fixture
def connect(waker, slots):
    def connect(server):
        relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=10, data_timeout=10)
        return Connection(TransportConfig(relay, slots=slots), Place(), waker, waits_for_intent=False)

    return connect


def opened(connection):
    assert connection.join(10)
    connection.opened()
    return connection


def is_free(slots):
    """Whether the only slot is: it was given back, and not twice."""
    free = slots.take()
    if free:
        assert not slots.take()
        slots.give_back()
    return free


def test_a_connection_is_opened_says_quit_and_is_closed(connect, slots):
    with FaultServer() as server:
        connection = connect(server)
        assert connection.state is State.CONNECTING
        assert opened(connection).state is State.OPEN
        assert not is_free(slots)
        connection.close(CloseReason.NO_MORE_MAILS)
        assert connection.state is State.CLOSING
        assert select.select([connection.fd], [], [], 10)[0], "QUIT was answered"
        connection.close(CloseReason.QUIT_SENT)
        assert server.verbs[-1] == "QUIT"
    assert connection.state is State.CLOSED
    assert is_free(slots)


def test_a_connection_that_broke_or_has_a_mail_in_flight_says_no_quit(connect, slots):
    with FaultServer() as server:
        for reason in (CloseReason.BROKEN, CloseReason.NO_MORE_MAILS, CloseReason.NOT_PERMITTED):
            connection = opened(connect(server))
            if reason is CloseReason.NO_MORE_MAILS:
                connection.dialogue.begin(message())
            connection.close(reason)
            assert connection.state is State.CLOSED
            assert is_free(slots)
    assert "QUIT" not in server.verbs


def test_a_connection_that_cannot_be_opened_is_closed(connect, slots):
    with FaultServer({"connect": [say("554 5.7.1 no")]}) as server:
        connection = connect(server)
        with pytest.raises(RelayError, match="no"):
            opened(connection)
    assert connection.state is State.CLOSED
    assert is_free(slots)


def test_a_connection_that_is_told_to_end_while_it_opens_is_closed_when_its_thread_has_ended(connect, slots):
    with FaultServer() as server:
        connection = connect(server)
        connection.close(CloseReason.NOT_PERMITTED)
        connection.close(CloseReason.NO_MORE_MAILS)
        assert opened(connection).state is State.CLOSED
        connection.close(CloseReason.BROKEN)
    assert connection.state is State.CLOSED
    assert is_free(slots)


def test_a_closed_connection_does_not_open_again(connect):
    with FaultServer() as server:
        connection = opened(connect(server))
        connection.close(CloseReason.BROKEN)
        with pytest.raises(RuntimeError, match="closed cannot become open"):
            connection._enter(State.OPEN)
