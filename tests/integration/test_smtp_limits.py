"""Relays that take so many mails on a connection, or so many connections: no mail pays for it, and all go out."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from functools import partial

import pytest
from support import smtpfault
from support.fakes import FakeRelayMemory
from support.mails import always, by_claim, kinds, message
from support.smtpfault import FaultServer, drop, listen_in_silence, raw, say

from mailbatch.application.ports.sending import Nap
from mailbatch.domain.connection_number import ConnectionNumber
from mailbatch.domain.outcome import Kind, RelayFault, Replied
from mailbatch.domain.reply_kinds import Concern, concern_of
from mailbatch.infrastructure.smtp.capabilities import MAILS_ON_ONE_CONNECTION, RelayCapabilities
from mailbatch.infrastructure.smtp.climb import Climb
from mailbatch.infrastructure.smtp.place import CONNECTIONS
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport
from mailbatch.infrastructure.smtp.transport_config import TransportConfig

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


def test_the_limits_have_names_that_the_domain_gives():
    from mailbatch.domain.outcome import Reply
    from mailbatch.domain.reply_kinds import kind_of

    for text in TOO_MANY_MAILS:
        assert kind_of(Reply(int(text[:3]), text[4:])).name == MAILS_ON_ONE_CONNECTION
    assert kind_of(Reply(432, "4.3.2 Concurrent connections limit exceeded")).name == CONNECTIONS


# --- a number of connections that is found ---------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Measurements take a twentieth of a second, and a trial that failed, perhaps by chance, is soon repeated."""
    patient = partial(ConnectionNumber, pause=0.05)
    monkeypatch.setattr("mailbatch.infrastructure.smtp.climb.ConnectionNumber", patient)
    monkeypatch.setattr("mailbatch.domain.connection_number._FIRST_PAUSE", 0.05)
    monkeypatch.setattr("mailbatch.infrastructure.smtp.climb._LEAST_SECONDS", 0.05)
    monkeypatch.setattr("mailbatch.infrastructure.smtp.climb.LOOK_EVERY", 0.02)
    monkeypatch.setattr("mailbatch.infrastructure.smtp.pool.LOOK_EVERY", 0.02)


def slow_dot(session):
    """Take a mail like a relay that is 20 ms away."""
    session.server.stopping.wait(0.02)
    session.ordinary()


class Source:
    """Mails until ``enough`` says so; then the stream ends."""

    def __init__(self, enough, most=5000):
        self.enough, self.most, self.messages = enough, most, []

    def __iter__(self):
        while not self.enough() and len(self.messages) < self.most:
            self.messages.append(message())
            yield self.messages[-1]


@pytest.mark.parametrize("mode", ["DATA", "PIPELINING"])
def test_it_has_more_connections_while_that_raises_the_rate_and_the_next_run_begins_with_them(mode, quick):
    memory, climb = FakeRelayMemory(), Climb(2, 6)
    mails = Source(lambda: climb.number == 6)
    with FaultServer({"dot": slow_dot}, extensions=smtpfault.OFFERS[mode]) as server:
        capabilities = RelayCapabilities(memory=lambda: memory)
        outcomes = by_claim(transport_to(server, climb=climb, capabilities=capabilities).send(mails, always))
        all_accepted(outcomes, mails.messages, server)
        assert memory.profile.connections in {4, 5}, "the last step may still fail"
        next_climb = Climb(2, 6)
        later = transport_to(server, climb=next_climb, capabilities=RelayCapabilities(memory=lambda: memory))
        by_claim(later.send([message()], always))
    assert next_climb.number == memory.profile.connections


def test_it_asks_for_no_more_than_it_may_have_and_gives_up_what_does_not_pay(quick):
    climb, used = Climb(2, 6), set()

    def slower_for_three(session):
        session.server.stopping.wait(0.02 if session.server.open_sessions < 3 else 0.1)
        session.ordinary()

    with FaultServer({"dot": slower_for_three}, extensions=smtpfault.OFFERS["PIPELINING"]) as server:

        def enough():
            used.add(climb.number)
            return len(used) > 1 and climb.number == server.open_sessions == 2

        mails = Source(enough, 500)
        outcomes = by_claim(transport_to(server, climb=climb).send(mails, always))
        all_accepted(outcomes, mails.messages, server)
    assert len(mails.messages) < mails.most, "the third connection is closed while mails go on"
    assert used == {2, 3}
    assert server.verbs.count("QUIT") == len(server.sessions)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("connect", "421 4.7.0 Error: too many connections from 192.0.2.1"),
        ("mail", "421 Too many concurrent SMTP connections; please try again later"),
        ("dot", "432 4.3.2 Concurrent connections limit exceeded"),
    ],
)
def test_it_has_as_many_connections_as_the_relay_lets_in(mode, step, reply):
    climb = Climb(6, 20)
    mails = Source(lambda: climb.number == 3)
    door = Door(3, part(reply))
    with FaultServer({step: door, "rcpt": slow_dot}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, climb=climb).send(mails, always))
    all_accepted(outcomes, mails.messages, server)
    assert climb.number == 3


@pytest.mark.parametrize("mode", ["PIPELINING"])
@pytest.mark.parametrize(
    "reply", ["421 4.7.0 Error: too many errors", "421 4.4.2 Error: timeout exceeded", TOO_MANY_MAILS[0]]
)
def test_a_relay_that_has_enough_of_one_connection_says_nothing_of_their_number(mode, reply):
    climb = Climb(4, 4)
    messages = [message(f"{'bad' if n in {9, 19} else 'ann'}{n}@x.org") for n in range(30)]
    said = set()

    def rcpt(session):
        if "bad" not in session.command or session.command in said:
            slow_dot(session)
        else:
            said.add(session.command)
            part(reply)(session)

    with FaultServer({"rcpt": rcpt}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, climb=climb, window=4).send(messages, always))
    all_accepted(outcomes, messages, server)
    assert climb.number == 4


def test_a_relay_that_lets_nobody_in_says_nothing_of_the_number():
    climb, refuse = Climb(4, 20), part("421 4.7.0 Error: too many connections from 192.0.2.1")
    with FaultServer({"connect": refuse}) as server:
        stream = transport_to(server, climb=climb).send([message()], always)
        assert isinstance(next(stream), RelayFault)
        stream.close()
    assert climb.number == 4


def test_a_relay_that_goes_away_does_not_lower_the_number():
    climb = Climb(4, 20)
    with FaultServer({"dot": slow_dot}, extensions=smtpfault.OFFERS["PIPELINING"]) as server:
        stream = transport_to(server, climb=climb).send((message() for _ in range(200)), always)
        next(stream)
        server.wait_for(lambda: server.open_sessions == 4)
        server.__exit__(None, None, None)
        for outcome in stream:
            if isinstance(outcome, RelayFault):
                break
        stream.close()
    assert climb.number == 4


@pytest.mark.parametrize("mode", MODES)
def test_a_relay_that_announces_its_limits_is_never_sent_more(mode):
    offers = (*smtpfault.OFFERS[mode], "LIMITS MAILMAX=3 RCPTMAX=2")
    messages = [message() for _ in range(20)]
    many = message("a@x.org", "b@x.org", "c@x.org")
    with FaultServer({}, extensions=offers) as server:
        outcomes = by_claim(transport_to(server, connections=2).send([*messages, many], always))
    verdicts = outcomes.pop(many.claim).verdicts
    assert [verdicts[to].kind for to in many.envelope.recipients] == [Kind.ACCEPTED, Kind.ACCEPTED, Kind.DEFERRED]
    assert concern_of(verdicts["c@x.org"].reply) is Concern.MAIL
    assert {kind for o in outcomes.values() for kind in kinds(o).values()} == {Kind.ACCEPTED}
    assert server.verbs.count("MAIL") == len(server.journal) == 21
    assert max(Counter(mail.connection for mail in server.journal).values()) == 3
    assert max(len(mail.recipients) for mail in server.journal) == 2


@pytest.mark.parametrize("limits", ["", "MAILMAX=0", "MAILMAX=many", "MAILMAX", "XMAILMAX=1", "MAILMAX=1234567"])
def test_limits_that_cannot_be_read_are_none(limits):
    messages = [message() for _ in range(9)]
    with FaultServer({}, extensions=(*smtpfault.OFFERS["PIPELINING"], f"LIMITS {limits}")) as server:
        all_accepted(by_claim(transport_to(server, connections=1).send(messages, always)), messages, server)
        assert len(server.sessions) == 1


def test_a_relay_that_closes_idle_connections_is_left_before_it_does():
    capabilities = RelayCapabilities()
    config = TransportConfig(SmtpRelay(host="127.0.0.1", port=25), capabilities=capabilities)
    capabilities.note_idle_end(10.2)
    assert config.idle_limit == 60, "once may be chance"
    capabilities.note_idle_end(3.0)
    capabilities.note_idle_end(10.4)
    assert config.idle_limit == 60
    capabilities.note_idle_end(10.0)
    assert config.idle_limit == pytest.approx(8.0)
    capabilities.note_idle_end(0.1)
    capabilities.note_idle_end(0.1)
    assert config.idle_limit == pytest.approx(8.0), "so short a time is no limit"


def test_the_time_for_which_a_connection_was_idle_is_learned_when_the_relay_closes_it(monkeypatch):
    monkeypatch.setattr("mailbatch.infrastructure.smtp.capabilities._LEAST_IDLE_LIMIT", 0.05)
    capabilities = RelayCapabilities()

    def mails(server):
        for n in range(1, 4):
            yield message()
            server.wait_for(lambda n=n: len(server.journal) == n)
            yield Nap(0.02)
            closing = server.sessions[-1]
            server.stopping.wait(0.2)
            closing.stop()
            yield Nap(0.02)

    with FaultServer({}, extensions=smtpfault.OFFERS["DATA"]) as server:
        transport = transport_to(server, connections=1, capabilities=capabilities)
        outcomes = by_claim(transport.send(mails(server), always))
    assert {kind for o in outcomes.values() for kind in kinds(o).values()} == {Kind.ACCEPTED}
    assert len(outcomes) == 3
    assert 0.15 < capabilities.idle_seconds < 1
