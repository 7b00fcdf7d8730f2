"""Many mails in flight: what is known of each when the relay breaks among them, and relays that cannot keep up."""

from __future__ import annotations

import logging
import time

import pytest
from support import smtpfault
from support.mails import always, by_claim, kinds, message
from support.smtpfault import FaultServer, accept_then, drop, listen_in_silence, raw, reset, say, silence

from mailbatch.domain.outcome import Kind, RelayFault, Replied
from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport

PIPELINED = ["PIPELINING", "BDAT"]
BREAKS = {
    "drop": drop,
    "reset": reset,
    "421": say("421 4.3.2 closing"),
    "garbage": say("what?"),
    "silence": listen_in_silence,
    "taken and dropped": accept_then(drop),
    "taken and reset": accept_then(reset),
    "taken and garbled": accept_then(say("2xx")),
}
STEPS = ["mail", "rcpt", "data", "body", "dot", "rset"]


def transport_to(server, **settings):
    relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=0.5, data_timeout=0.5)
    return SmtpTransport(relay, **{"connections": 1} | settings)


def only_what_is_known(outcomes, messages, server, window, broken=1):
    """The oracle: what the relay's journal says against what we say."""
    taken = [accepted.data for accepted in server.journal]
    assert len(set(taken)) == len(taken), "taken twice"
    assert outcomes.keys() == {m.claim for m in messages}
    unknown = 0
    for one in messages:
        outcome = outcomes[one.claim]
        said = set(kinds(outcome).values()) if isinstance(outcome, Replied) else set()
        unknown += Kind.NO_VERDICT in said
        if Kind.NO_VERDICT not in said:
            assert (Kind.ACCEPTED in said) == (one.data in taken), outcome
    assert unknown <= window * broken


@pytest.mark.parametrize("mode", smtpfault.OFFERS)
@pytest.mark.parametrize("window", [1, 8])
@pytest.mark.parametrize(
    ("step", "how"), [(step, how) for step in STEPS for how in BREAKS if step == "dot" or not how.startswith("taken")]
)
def test_a_break_among_many_mails_leaves_no_more_open_than_the_window(mode, window, step, how):
    script = {step: [None] * 5 + [BREAKS[how]]}
    messages = [message(f"u{n}@x.org", body=b"x" * 70 + b"\r\n" * (n % 7)) for n in range(30)]
    messages = [m if m.data.endswith(b"\r\n") else message() for m in messages]
    with FaultServer(script, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, window=window).send(messages, always))
    only_what_is_known(outcomes, messages, server, window if mode == "BDAT" else 1)


@pytest.mark.parametrize("mode", smtpfault.OFFERS)
def test_refusals_among_many_mails_touch_no_other(mode):
    def rcpt(session):
        name = session.command.partition("<")[2]
        say("550 5.1.1 no")(session) if name.startswith("no") else session.ordinary()

    names = ["ann", "no", "bob"]
    messages = [message(*[f"{names[(n + k) % 3]}{n}@x.org" for k in range(n % 3 + 1)]) for n in range(60)]
    with FaultServer({"rcpt": rcpt}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, window=8).send(messages, always))
    only_what_is_known(outcomes, messages, server, 0)
    for one in messages:
        expected = {to: Kind.REJECTED if to.startswith("no") else Kind.ACCEPTED for to in one.envelope.recipients}
        assert kinds(outcomes[one.claim]) == expected
    for accepted in server.journal:
        (one,) = [m for m in messages if m.data == accepted.data]
        assert accepted.recipients == tuple(to for to in one.envelope.recipients if not to.startswith("no"))


@pytest.mark.parametrize("mode", PIPELINED)
def test_the_commands_of_a_mail_go_in_one_write(mode):
    behind = []

    def mail(session):
        behind.append(bytes(session.buffer))
        session.ordinary()

    with FaultServer({"mail": mail}, extensions=smtpfault.OFFERS[mode]) as server:
        list(transport_to(server, window=1).send([message()], always))
    assert behind[0].startswith(b"RCPT TO:<ann@example.org>\r\n" + (b"DATA\r\n" if mode == "PIPELINING" else b"BDAT "))


def test_window_1_puts_one_mail_at_risk():
    messages = [message() for _ in range(10)]
    with FaultServer({"dot": [None, None, drop]}, extensions=smtpfault.OFFERS["BDAT"]) as server:
        outcomes = by_claim(transport_to(server, window=1).send(messages, always))
    said = [kinds(outcomes[m.claim])["ann@example.org"] for m in messages]
    assert said == [Kind.ACCEPTED] * 2 + [Kind.NO_VERDICT] + [Kind.ACCEPTED] * 7


@pytest.mark.parametrize("mode", PIPELINED)
def test_data_accepted_for_nobody_gets_an_empty_end(mode):
    script = {"rcpt": [None, say("550 5.1.1 no")], "data": [None, say("354 go on, for nobody")]}
    if mode == "BDAT":
        script = {"rcpt": script["rcpt"]}
    messages = [message() for _ in range(4)]
    with FaultServer(script, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, window=1).send(messages, always))
    said = [kinds(outcomes[m.claim])["ann@example.org"] for m in messages]
    assert said == [Kind.ACCEPTED, Kind.REJECTED, Kind.ACCEPTED, Kind.ACCEPTED]
    assert [a.data for a in server.journal if a.recipients] == [messages[n].data for n in (0, 2, 3)]


@pytest.mark.parametrize("mode", smtpfault.OFFERS)
def test_full_buffers_on_both_sides_do_not_lock_up(mode):
    def mail(session):
        session.prefix = b"250-and so on and so on\r\n" * 1200
        session.ordinary()

    body = b"x" * 70 + b"\r\n"
    messages = [message(body=body * (30_000 if n % 5 == 0 else 1)) for n in range(60)]
    with FaultServer({"mail": mail}, extensions=smtpfault.OFFERS[mode]) as server:
        relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=10, data_timeout=10)
        outcomes = by_claim(SmtpTransport(relay, connections=1).send(messages, always))
    assert {kind for o in outcomes.values() for kind in kinds(o).values()} == {Kind.ACCEPTED}
    only_what_is_known(outcomes, messages, server, 0)


@pytest.mark.parametrize(
    ("mode", "step", "answer", "verb"),
    [
        ("BDAT", "data", "502 5.5.2 what is BDAT?", "DATA"),
        ("BDAT", "rcpt", "503 5.5.1 one by one please", "DATA"),
        ("PIPELINING", "rcpt", "503 5.5.1 one by one please", "DATA"),
        ("PIPELINING", "data", "503 5.5.1 one by one please", "DATA"),
    ],
)
def test_a_relay_that_cannot_handle_a_mode_is_spoken_to_more_slowly(mode, step, answer, verb, caplog):
    capabilities = RelayCapabilities()
    messages = [message() for _ in range(5)]
    with FaultServer({step: [say(answer)]}, extensions=smtpfault.OFFERS[mode]) as server, caplog.at_level(logging.INFO):
        outcomes = by_claim(transport_to(server, capabilities=capabilities).send(messages, always))
        again = list(transport_to(server, capabilities=capabilities).send([message()], always))
    assert [kinds(outcomes[m.claim])["ann@example.org"] for m in messages] == [Kind.ACCEPTED] * 5
    assert kinds(again[0])["ann@example.org"] is Kind.ACCEPTED
    assert server.verbs.count("BDAT") <= 1
    assert server.verbs[-2] == verb
    assert sum("cannot handle" in record.message for record in caplog.records) == 1


def test_a_relay_that_works_is_not_slowed_down_by_a_break(caplog):
    messages = [message() for _ in range(20)]
    with FaultServer({"dot": [None] * 5 + [say("what?")]}, extensions=smtpfault.OFFERS["BDAT"]) as server:
        list(transport_to(server, window=2).send(messages, always))
    assert "cannot handle" not in caplog.text
    assert "DATA" not in server.verbs


@pytest.mark.parametrize("mode", PIPELINED)
def test_what_the_relay_says_while_nothing_is_asked_ends_the_session(mode):
    both = accept_then(raw(b"250 2.0.0 queued\r\n250 2.0.0 queued again\r\n"))
    messages = [message() for _ in range(3)]
    with FaultServer({"dot": [both]}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server).send(messages, always))
    assert [kinds(outcomes[m.claim])["ann@example.org"] for m in messages] == [Kind.ACCEPTED] * 3
    assert [accepted.connection for accepted in server.journal] == [1, 2, 2]


@pytest.mark.parametrize("mode", smtpfault.OFFERS)
def test_a_relay_that_is_closing_gives_its_mail_back(mode):
    messages = [message() for _ in range(3)]
    with FaultServer({"rcpt": [say("421 4.3.2 closing")]}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server).send(messages, always))
    assert isinstance(outcomes[messages[0].claim], RelayFault)
    assert len(server.journal) == 2


@pytest.mark.parametrize("refused", [{5}, {0, 5}], ids=["in the middle", "from the first mail on"])
def test_a_reply_too_many_among_many_mails_is_noticed_before_it_counts_for_another(refused):
    def dot(session):
        if session.recipients[0].startswith("no"):
            say("550 5.7.1 no")(session)
        else:
            session.ordinary()

    twice = raw(b"250 2.1.5 noted\r\n250 2.1.5 noted\r\n")
    messages = [message(f"{'no' if n in refused else 'ann'}{n}@x.org") for n in range(12)]
    script = {"rcpt": [None] * 5 + [twice], "dot": dot}
    with FaultServer(script, extensions=smtpfault.OFFERS["BDAT"]) as server:
        outcomes = by_claim(transport_to(server, window=8).send(messages, always))
    only_what_is_known(outcomes, messages, server, 8)
    assert kinds(outcomes[messages[5].claim]) == {"no5@x.org": Kind.NO_VERDICT}


@pytest.mark.parametrize("mode", PIPELINED)
def test_a_relay_that_stops_reading_among_many_mails_is_left_at_the_deadline(mode):
    # More than the kernels hold, and more mails behind it that wait for their turn.
    fat = message(body=b"\r\n" * 4_900_000)
    messages = [message(), fat, *[message() for _ in range(20)]]
    with FaultServer({"body": [None, silence]}, extensions=smtpfault.OFFERS[mode]) as server:
        began = time.monotonic()
        outcomes = by_claim(transport_to(server, byte_budget=2**30).send(messages, always))
        assert time.monotonic() - began < 30
    lost = outcomes.pop(fat.claim)
    assert isinstance(lost, RelayFault)
    assert "the body took longer than 0.5 s" in lost.reason
    assert {kind for outcome in outcomes.values() for kind in kinds(outcome).values()} == {Kind.ACCEPTED}


def test_answers_that_a_relay_keeps_back_until_the_end_have_the_time_of_the_body():
    def keep_back(session):
        write = session.write
        session.write = lambda data: setattr(session, "prefix", session.prefix + data)
        session.ordinary()
        session.write = write

    def dot(session):
        session.server.stopping.wait(0.6)
        session.ordinary()

    script = {"mail": keep_back, "rcpt": keep_back, "dot": [None, dot]}
    messages = [message() for _ in range(4)]
    with FaultServer(script, extensions=smtpfault.OFFERS["BDAT"]) as server:
        relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=0.3, data_timeout=10)
        outcomes = by_claim(SmtpTransport(relay, connections=1).send(messages, always))
    assert [kinds(outcomes[m.claim])["ann@example.org"] for m in messages] == [Kind.ACCEPTED] * 4


@pytest.mark.parametrize("mode", PIPELINED)
def test_a_domain_without_a_dot_slows_no_other_mail_down(mode, caplog):
    unqualified = say("504 5.5.2 <ann@intranet>: Recipient address rejected: need fully-qualified address")
    messages = [message() for _ in range(4)]
    with FaultServer({"rcpt": [None, unqualified]}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server).send(messages, always))
    assert [kinds(outcomes[m.claim])["ann@example.org"] for m in messages] == [
        Kind.ACCEPTED,
        Kind.REJECTED,
        Kind.ACCEPTED,
        Kind.ACCEPTED,
    ]
    assert "cannot handle" not in caplog.text
    assert len(server.sessions) == 1
