"""Relays that take less than they offer: a reply to what came early is no verdict, and no body is read as commands."""

from __future__ import annotations

import socket

import pytest
from support import smtpfault
from support.fakes import FakeRelayMemory
from support.mails import always, by_claim, kinds, message
from support.smtpfault import FaultServer, HungUp, listen_in_silence, say

from mailbatch.domain.outcome import Kind
from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport

PIPELINED = ["PIPELINING", "BDAT"]


def transport_to(server, **settings):
    relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=5, data_timeout=5)
    return SmtpTransport(relay, **{"connections": 1} | settings)


def refuses_what_came_early(reply, verbs=("RSET", "MAIL", "RCPT", "DATA", "BDAT")):
    """At ``dot``, as Haraka: take the mail, and answer ``reply`` to each command that came before the 250."""

    def dot(session):
        early = bytes(session.buffer)
        session.ordinary()
        while early:
            line, _, early = early.partition(b"\r\n")
            del session.buffer[: len(line) + 2]
            session.server.note(lambda line=line: session.server.commands.append((session.number, line.decode())))
            if line.startswith(b"BDAT"):
                size = int(line.split()[1])
                while len(session.buffer) < size:
                    session.buffer += session.read()
                early = early[size:]
                del session.buffer[:size]
            if line[:4].decode() in verbs:
                session.say(reply)
            else:
                session.say("250 2.0.0 fine")

    return dot


OUT_OF_ORDER = [
    "503 Bad sequence of commands - pipelined after end of DATA",
    "500 5.5.1 what?",
    "501 5.5.2 no",
    "502 5.5.1 not now",
    "504 5.5.4 no",
    "550 5.5.1 Protocol error",
    "554 SMTP synchronization error",
    "554 5.5.0 Error: improper use of SMTP command pipelining",
    "550 5.7.1 no",
    "450 4.7.0 you talk too soon: no pipelining",
]


@pytest.mark.parametrize("mode", PIPELINED)
@pytest.mark.parametrize("reply", OUT_OF_ORDER)
@pytest.mark.parametrize("connections", [1, 4])
def test_what_a_relay_says_to_commands_that_came_early_is_no_verdict(mode, reply, connections, caplog):
    capabilities = RelayCapabilities()
    messages = [message() for _ in range(30)]
    script = {"dot": refuses_what_came_early(reply)}
    with FaultServer(script, extensions=smtpfault.OFFERS[mode]) as server:
        transport = transport_to(server, capabilities=capabilities, connections=connections)
        outcomes = by_claim(transport.send(messages, always))
        assert not capabilities.may_send_ahead
        said = len(server.commands)
        again = by_claim(transport.send(more := [message() for _ in range(10)], always))
    assert [kinds(outcomes[m.claim]) for m in messages] == [{"ann@example.org": Kind.ACCEPTED}] * 30
    assert [kinds(again[m.claim]) for m in more] == [{"ann@example.org": Kind.ACCEPTED}] * 10
    assert sorted(a.data for a in server.journal) == sorted(m.data for m in [*messages, *more])
    assert sum(command.startswith("MAIL") for _, command in server.commands[said:]) == 10
    assert caplog.text.count("takes no command before") == 1


@pytest.mark.parametrize("mode", PIPELINED)
@pytest.mark.parametrize(
    "reply", ["501 5.1.7 bad sender address syntax", "504 5.5.2 need a full domain", "550 5.7.1 no"]
)
def test_a_sender_whom_a_relay_refuses_is_refused_and_slows_no_other_mail_down(mode, reply, caplog):
    def mail(session):
        say(reply)(session) if "bad" in session.command else session.ordinary()

    capabilities = RelayCapabilities()
    messages = [message(sender=f"{'bad' if n % 5 == 3 else 'good'}@example.org") for n in range(40)]
    with FaultServer({"mail": mail}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, capabilities=capabilities, window=8).send(messages, always))
    for n, one in enumerate(messages):
        assert kinds(outcomes[one.claim]) == {"ann@example.org": Kind.REJECTED if n % 5 == 3 else Kind.ACCEPTED}
    assert capabilities.may_send_ahead
    assert caplog.text == ""
    assert len(server.sessions) == 1


@pytest.mark.parametrize("mode", PIPELINED)
def test_a_relay_that_hangs_up_on_early_commands_is_found_out(mode):
    def dot(session):
        early = bool(session.buffer)
        session.ordinary()
        if early:
            raise HungUp

    capabilities = RelayCapabilities()
    messages = [message() for _ in range(12)]
    with FaultServer({"dot": dot}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, capabilities=capabilities, window=2).send(messages, always))
    accepted = [m for m in messages if kinds(outcomes[m.claim])["ann@example.org"] is Kind.ACCEPTED]
    # It is found out at the second time; each time both mails of the window may be in doubt.
    assert len(accepted) >= 8 if mode == "BDAT" else len(accepted) == 12
    assert not capabilities.may_send_ahead


def test_what_one_process_learned_the_next_one_knows():
    memory = FakeRelayMemory()
    script = {"dot": refuses_what_came_early("503 5.5.1 too early")}
    with FaultServer(script, extensions=smtpfault.OFFERS["PIPELINING"]) as server:
        list(
            transport_to(server, capabilities=RelayCapabilities(memory=lambda: memory)).send(
                [message() for _ in range(5)], always
            )
        )
        before = len(server.commands)
        list(
            transport_to(server, capabilities=RelayCapabilities(memory=lambda: memory)).send(
                [message() for _ in range(5)], always
            )
        )
    assert not memory.profile.takes_ahead
    assert [command[:4].upper() for _, command in server.commands[before:]] == [
        "EHLO",
        *["MAIL", "RCPT", "DATA"] * 5,
        "QUIT",
    ]


# --- BDAT ---------------------------------------------------------------------------------------------------------

HOSTILE = b"MAIL FROM:<spy@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nbought\r\n.\r\nQUIT\r\n"


@pytest.fixture
def reads_chunks(monkeypatch):
    """Make the relay answer 502 to BDAT without a recipient, and read the chunk as commands (go-smtp 1.21, maddy).

    ``trial_too``: also a chunk that comes before any mail.
    """
    read_chunk = smtpfault.Session.read_chunk

    def reading(session, size):
        if session.recipients:
            return read_chunk(session, size)
        session.say("502 5.5.1 Missing RCPT TO command.")
        return None

    def choose(*, trial_too):
        monkeypatch.setattr(smtpfault.Session, "read_chunk", reading)
        if trial_too:
            monkeypatch.setattr(smtpfault.Session, "swallow_trial", lambda session: reading(session, 6))

    return choose


def rcpt(session):
    say("550 5.1.1 no such user")(session) if "refused" in session.command else session.ordinary()


def test_no_line_of_a_body_is_a_command_at_a_relay_that_does_not_swallow_a_refused_chunk(reads_chunks, caplog):
    reads_chunks(trial_too=True)
    memory = FakeRelayMemory()
    messages = [message(f"{'refused' if n % 7 == 0 else 'ann'}{n}@x.org", body=HOSTILE) for n in range(60)]
    with FaultServer({"rcpt": rcpt}, extensions=smtpfault.OFFERS["BDAT"]) as server:
        outcomes = by_claim(
            transport_to(server, connections=4, capabilities=RelayCapabilities(memory=lambda: memory)).send(
                messages, always
            )
        )
        trials = server.verbs.count("BDAT")
        list(transport_to(server, capabilities=RelayCapabilities(memory=lambda: memory)).send([message()], always))
    for n, one in enumerate(messages):
        (kind,) = kinds(outcomes[one.claim]).values()
        assert kind is (Kind.REJECTED if n % 7 == 0 else Kind.ACCEPTED)
    assert all(a.sender == "sender@example.org" for a in server.journal)
    assert len(server.journal) == len(messages) - 9 + 1
    assert memory.profile.dialogue == "PIPELINING"
    assert server.verbs.count("BDAT") == trials == 0
    assert caplog.text.count("cannot handle") == 1


def test_a_relay_that_shows_only_later_that_it_reads_chunks_as_commands_puts_no_mail_in_doubt(reads_chunks, caplog):
    reads_chunks(trial_too=False)

    errors = {}

    def say_and_count(session, line):
        original_say(session, line)
        if line.startswith("5") and not line.startswith("550"):
            errors[session] = errors.get(session, 0) + 1
            if errors[session] > 4:
                original_say(session, "500 5.5.1 Too many errors. Quiting now")
                session.sock.shutdown(socket.SHUT_WR)
                listen_in_silence(session)

    original_say = smtpfault.Session.say
    capabilities = RelayCapabilities()
    body = b"one line\r\n" * 10
    messages = [message(f"{'refused' if n == 20 else 'ann'}{n}@x.org", body=body) for n in range(60)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smtpfault.Session, "say", say_and_count)
        with FaultServer({"rcpt": rcpt}, extensions=smtpfault.OFFERS["BDAT"]) as server:
            outcomes = by_claim(transport_to(server, capabilities=capabilities, window=16).send(messages, always))
    for n, one in enumerate(messages):
        assert kinds(outcomes[one.claim]) == {
            f"{'refused' if n == 20 else 'ann'}{n}@x.org": (Kind.REJECTED if n == 20 else Kind.ACCEPTED)
        }
    assert len({a.data for a in server.journal}) == len(server.journal) == 59
    assert "refused a chunk" in caplog.text


def test_a_relay_that_hangs_up_on_the_trial_is_spoken_to_without_bdat(monkeypatch):
    def hang_up(session):
        raise HungUp

    monkeypatch.setattr(smtpfault.Session, "swallow_trial", hang_up)
    capabilities = RelayCapabilities()
    with FaultServer(extensions=smtpfault.OFFERS["BDAT"]) as server:
        outcomes = list(
            transport_to(server, connections=2, capabilities=capabilities).send([message() for _ in range(9)], always)
        )
        list(transport_to(server, capabilities=capabilities).send([message()], always))
        before = len(server.sessions)
        list(transport_to(server, capabilities=capabilities).send([message()], always))
        assert len(server.sessions) == before + 1
    assert [kinds(outcome) for outcome in outcomes] == [{"ann@example.org": Kind.ACCEPTED}] * 9
    assert "BDAT" not in server.verbs


def test_a_relay_that_swallows_is_tried_once(caplog):
    memory = FakeRelayMemory()
    with FaultServer({"rcpt": rcpt}, extensions=smtpfault.OFFERS["BDAT"]) as server:
        for _ in range(3):
            messages = [message(f"{'refused' if n % 7 == 0 else 'ann'}{n}@x.org") for n in range(60)]
            list(
                transport_to(server, connections=4, capabilities=RelayCapabilities(memory=lambda: memory)).send(
                    messages, always
                )
            )
    assert len(server.trials) == 1
    assert memory.profile.swallows
    assert "DATA" not in server.verbs
    assert caplog.text == ""


def test_strict_mode_needs_no_trial():
    with FaultServer(extensions=smtpfault.OFFERS["BDAT"]) as server:
        transport = transport_to(server, window=1)
        outcomes = list(transport.send([message() for _ in range(3)], always, set))
    assert [kinds(outcome) for outcome in outcomes] == [{"ann@example.org": Kind.ACCEPTED}] * 3
    assert server.trials == []
