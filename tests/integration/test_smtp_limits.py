"""Relays that take so many mails on a connection, or so many connections: no mail pays for it, and all go out."""

from __future__ import annotations

import socket
import threading

import pytest
from support import smtpfault
from support.fakes import FakeRelayMemory
from support.mails import always, by_claim, kinds, message
from support.smtpfault import FaultServer, drop, listen_in_silence, raw, say

from mailbatch.domain.outcome import Kind, RelayFault, Replied
from mailbatch.infrastructure.smtp.capabilities import MAILS_ON_ONE_CONNECTION, RelayCapabilities
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport

MODES = list(smtpfault.OFFERS)
TOO_MANY_MAILS = [
    "421 4.4.2 mail.example.com too many messages in one session",
    "421 too many messages in this connection",
    "450 4.7.1 Error: too many mails on this connection",
    "452 4.5.3 Too many messages in this session",
]


def transport_to(server, **settings):
    relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=30, data_timeout=30)
    return SmtpTransport(relay, **settings)


def all_accepted(outcomes, messages, server):
    assert outcomes.keys() == {m.claim for m in messages}
    assert [o for o in outcomes.values() if not isinstance(o, Replied)] == []
    assert {kind for o in outcomes.values() for kind in kinds(o).values()} == {Kind.ACCEPTED}
    assert sorted(a.data for a in server.journal) == sorted(m.data for m in messages)


def part(reply):
    """Say ``reply`` and hang up, but read on: after a reset the client may lose the reply unread."""

    def action(session):
        session.say(reply)
        session.sock.shutdown(socket.SHUT_WR)
        listen_in_silence(session)

    return action


def after(most, action):
    """Do ``action`` at this step once a connection has carried so many mails."""

    def step(session):
        carried = sum(accepted.connection == session.number for accepted in session.server.journal)
        action(session) if carried >= most else session.ordinary()

    return step


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", ["mail", "rcpt", "dot"])
@pytest.mark.parametrize("most", [1, 3, 10])
@pytest.mark.parametrize("stays", [False, True], ids=["hangs up", "stays"])
@pytest.mark.parametrize("reply", TOO_MANY_MAILS[:2])
def test_a_relay_that_takes_so_many_mails_on_a_connection_gets_no_more(mode, step, most, stays, reply):
    messages = [message() for _ in range(60)]
    action = raw(f"{reply}\r\n".encode()) if stays else part(reply)
    capabilities = RelayCapabilities()
    with FaultServer({step: after(most, action)}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, connections=4, capabilities=capabilities).send(messages, always))
    all_accepted(outcomes, messages, server)
    assert capabilities.mails_per_connection == most
    # Each of the connections that were open when it was learned may have carried too many: the one that is refused, and
    # what was sent before that reply (with PIPELINING the next MAIL goes with the body, with BDAT up to 32 mails).
    wasted = 4 * {"DATA": 1, "PIPELINING": 2, "BDAT": 32}[mode]
    assert server.verbs.count("MAIL") <= len(messages) + wasted


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reply", TOO_MANY_MAILS)
def test_the_limit_is_known_to_the_next_process(mode, reply):
    memory = FakeRelayMemory()
    with FaultServer({"mail": after(3, part(reply))}, extensions=smtpfault.OFFERS[mode]) as server:
        first = [message() for _ in range(12)]
        outcomes = by_claim(
            transport_to(server, connections=2, capabilities=RelayCapabilities(memory=lambda: memory)).send(
                first, always
            )
        )
        before = server.verbs.count("MAIL")
        then = [message() for _ in range(12)]
        outcomes |= by_claim(
            transport_to(server, capabilities=RelayCapabilities(memory=lambda: memory)).send(then, always)
        )
    all_accepted(outcomes, [*first, *then], server)
    assert server.verbs.count("MAIL") - before == 12
    assert memory.profile.mails == 3


@pytest.mark.parametrize("mode", ["DATA", "PIPELINING"])
def test_a_relay_that_hangs_up_after_so_many_mails_without_a_word_is_understood(mode):
    messages = [message() for _ in range(60)]
    capabilities = RelayCapabilities()
    with FaultServer({"mail": after(5, drop)}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, connections=2, capabilities=capabilities).send(messages, always))
    all_accepted(outcomes, messages, server)
    assert capabilities.mails_per_connection == 5


class Door:
    """Lets so many connections in at once; the others hear ``action`` at the step."""

    def __init__(self, most, action):
        self.most, self.action = most, action
        self._lock = threading.Lock()
        self._in = set()

    def __call__(self, session):
        with self._lock:
            self._in = {one for one in self._in if not one.ended}
            fits = session in self._in or len(self._in) < self.most
            if fits:
                self._in.add(session)
        session.ordinary() if fits else self.action(session)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("connect", "421 4.7.0 Error: too many connections from 192.0.2.1"),
        ("ehlo", "421 Too many concurrent SMTP connections; please try again later"),
        ("mail", "421 4.4.5 Too many connections from your host"),
        ("dot", "432 4.3.2 Concurrent connections limit exceeded"),
        ("dot", "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"),
        ("dot", "421 4.3.2 too many sessions"),
    ],
)
def test_a_relay_that_lets_few_connections_in_gets_all_over_these(mode, most, step, reply):
    messages = [message() for _ in range(60)]
    door = Door(most, part(reply))
    with FaultServer({step: door}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, connections=4).send(messages, always))
    all_accepted(outcomes, messages, server)
    assert server.verbs.count("MAIL") <= len(messages) + 3 * (1 if mode != "BDAT" else 32)


@pytest.mark.parametrize("mode", MODES)
def test_a_relay_that_lets_nobody_in_for_the_number_of_connections_is_at_fault(mode):
    reply = say("421 4.7.0 too many connections")
    with FaultServer({"mail": reply}, extensions=smtpfault.OFFERS[mode]) as server:
        stream = transport_to(server, connections=1).send((message() for _ in range(9)), always)
        assert isinstance(next(stream), RelayFault)
        stream.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_mail_that_uses_up_one_connection_after_the_other_is_given_back_at_last(mode):
    def rcpt(session):
        bad = "bad" in session.command
        part("421 4.7.0 Error: too many errors")(session) if bad else session.ordinary()

    messages = [message(f"{'bad' if n == 7 else 'ann'}{n}@x.org") for n in range(40)]
    with FaultServer({"rcpt": rcpt}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, connections=1, window=4).send(messages, always))
    bad = outcomes.pop(messages[7].claim)
    assert isinstance(bad, RelayFault)
    assert bad.reply is not None
    assert {kind for o in outcomes.values() for kind in kinds(o).values()} == {Kind.ACCEPTED}
    assert len(server.sessions) <= 6


@pytest.mark.parametrize("mode", ["BDAT"])
def test_mails_behind_a_relay_that_is_closing_are_known_not_to_be_taken(mode):
    messages = [message() for _ in range(30)]
    script = {"mail": [None] * 5 + [part("421 4.3.2 shutting down")]}
    with FaultServer(script, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, connections=1).send(messages, always))
    all_accepted(outcomes, messages, server)


def test_the_limit_has_a_name_that_the_domain_gives():
    from mailbatch.domain.outcome import Reply
    from mailbatch.domain.reply_kinds import kind_of

    for text in TOO_MANY_MAILS:
        assert kind_of(Reply(int(text[:3]), text[4:])).name == MAILS_ON_ONE_CONNECTION
