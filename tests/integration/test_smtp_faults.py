"""Each fault of a relay at each step: what is known of the mail afterwards, and in how much time."""

from __future__ import annotations

import asyncio
import time
import tracemalloc

import aiosmtplib
import pytest
from support import smtpfault
from support.mails import always, kinds, message, the_reply
from support.smtpfault import (
    FaultServer,
    accept_then,
    after_reading,
    drip,
    drop,
    flood,
    listen_in_silence,
    raw,
    reset,
    say,
    silence,
)

from mailbatch.domain.outcome import Kind, RelayFault, Replied
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport


@pytest.fixture(params=smtpfault.OFFERS, autouse=True)
def mode(request, monkeypatch):
    """What the relay of a test announces, unless the test says so itself: each runs in all three dialogues."""
    monkeypatch.setattr(smtpfault, "EXTENSIONS", smtpfault.OFFERS[request.param])
    return request.param


BEFORE_THE_DOT = ["connect", "ehlo", "mail", "rcpt", "data"]
BREAKDOWNS = {
    "drop": drop,
    "reset": reset,
    "garbage": say("this is not SMTP"),
    "nul": raw(b"\x00\x01\x02\r\n"),
    "low code": say("150 hm"),
    "high code": say("650 hm"),
    "changing code": say("250-one", "550 two"),
    "long line": raw(b"2" * 20_000),
    "flood": flood,
    "silence": listen_in_silence,
    "drip": drip(b"250-a reply that takes its time\r\n" * 100, 0.05),
}


def relay_of(server, **settings):
    return SmtpRelay(host="127.0.0.1", port=server.port, **{"timeout": 0.4, "data_timeout": 0.4} | settings)


def send_one(server, one=None, **settings):
    (outcome,) = SmtpTransport(relay_of(server, **settings)).send([one or message()], always)
    return outcome


@pytest.mark.parametrize("step", BEFORE_THE_DOT)
@pytest.mark.parametrize("breakdown", BREAKDOWNS)
def test_a_breakdown_before_the_dot_is_the_relays_fault(step, breakdown, mode):
    began = time.monotonic()
    with FaultServer({step: [BREAKDOWNS[breakdown]]}) as server:
        outcome = send_one(server)
    assert time.monotonic() - began < 30
    if mode == "BDAT" and step not in ("connect", "ehlo"):
        # The whole mail had gone out: nobody can know.
        assert kinds(outcome) == {"ann@example.org": Kind.NO_VERDICT}
        return
    assert isinstance(outcome, RelayFault), outcome
    assert not outcome.hopeless
    assert outcome.relay == f"127.0.0.1:{server.port}"
    assert outcome.in_dialogue == (step in ("rcpt", "data"))
    assert outcome.reason
    assert server.journal == []


@pytest.mark.parametrize("breakdown", [*BREAKDOWNS, "another 2xx", "354"])
@pytest.mark.parametrize("taken", [True, False])
def test_a_breakdown_after_the_dot_is_no_verdict(breakdown, taken):
    breakdowns = BREAKDOWNS | {"another 2xx": say("299 what?"), "354": say("354 go on")}
    action = breakdowns[breakdown]
    began = time.monotonic()
    with FaultServer({"dot": [accept_then(action) if taken else action]}) as server:
        outcome = send_one(server)
    assert kinds(outcome) == {"ann@example.org": Kind.NO_VERDICT}
    assert the_reply(outcome).code == 0
    assert the_reply(outcome).text
    assert len(server.journal) == taken
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data", "dot"])
def test_421_is_the_relays_fault_everywhere(step):
    with FaultServer({step: [say("421 4.3.2 closing")]}) as server:
        outcome = send_one(server)
    assert isinstance(outcome, RelayFault)
    assert "421" in outcome.reason
    assert outcome.in_dialogue == (step in ("rcpt", "data", "dot"))
    assert server.journal == []


@pytest.mark.parametrize("step", ["connect", "ehlo"])
@pytest.mark.parametrize("answer", ["454 4.3.0 not now", "554 5.3.2 not you"])
def test_a_relay_that_refuses_us_is_at_fault(step, answer):
    with FaultServer({step: [say(answer)]}) as server:
        outcome = send_one(server)
    assert isinstance(outcome, RelayFault)
    assert answer[:3] in outcome.reason


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize(
    ("answer", "kind"), [("451 4.7.1 later", Kind.DEFERRED), ("550-5.7.1 no,", Kind.REJECTED), ("599", Kind.REJECTED)]
)
def test_a_definite_refusal_is_the_mails_own(step, answer, kind):
    lines = [answer, "550 never"] if answer[3:4] == "-" else [answer]
    with FaultServer({step: [say(*lines)]}) as server:
        outcome = send_one(server)
    assert kinds(outcome) == {"ann@example.org": kind}
    assert str(the_reply(outcome)) == " ".join(lines).replace("550-", "550 ").replace(", 550", ",")
    assert server.journal == []


def test_a_relay_that_is_not_there_is_at_fault():
    server = FaultServer()
    with server:
        pass
    outcome = send_one(server)
    assert isinstance(outcome, RelayFault)
    assert outcome.reason == "cannot connect: Connection refused"


def test_a_name_that_is_none_is_a_fault():
    for host in ("no-such-host.invalid", "a" * 64 + ".invalid"):
        (outcome,) = SmtpTransport(SmtpRelay(host=host, port=25)).send([message()], always)
        assert isinstance(outcome, RelayFault)
        assert host in outcome.reason


@pytest.mark.parametrize("action", [drop, reset, after_reading(100_000, drop), after_reading(100_000, reset)])
def test_a_relay_lost_in_the_middle_of_the_body_is_its_own_fault(action):
    with FaultServer({"body": [action]}, extensions=()) as server:
        outcome = send_one(server, message(body=b"x" * 70 + b"\r\n" * 5_000_000), data_timeout=5)
    assert isinstance(outcome, RelayFault)


def test_a_relay_that_stops_reading_is_left_at_the_deadline():
    began = time.monotonic()
    with FaultServer({"body": [silence]}, extensions=()) as server:
        outcome = send_one(server, message(body=b"\r\n" * 10_000_000))
        elapsed = time.monotonic() - began
    assert isinstance(outcome, RelayFault)
    assert "the body took longer than 0.4 s" in outcome.reason
    assert elapsed < 30


@pytest.mark.parametrize("mode", ["DATA", "PIPELINING"], indirect=True)
@pytest.mark.parametrize(
    "early",
    [
        raw(b"354 go\r\n250 2.0.0 queued\r\n"),
        raw(b"354 go\r\n250"),
        raw(b"354 go\r\n552 5.3.4 too big\r\n"),
    ],
)
def test_an_answer_ahead_of_the_dot_is_not_believed(early):
    with FaultServer({"data": [early]}) as server:
        outcome = send_one(server)
        server.wait_for(lambda: server.open_sessions == 0)
    assert isinstance(outcome, RelayFault)
    assert "before the end of the body" in outcome.reason
    assert server.journal == []


def test_an_answer_during_the_body_is_not_believed_either():
    with FaultServer({"body": [after_reading(1, raw(b"250 2.0.0 queued\r\n"))]}, extensions=()) as server:
        # Larger than what the kernels hold, so that the answer is there before the body has ended.
        outcome = send_one(server, message(body=b"\r\n" * 10_000_000), data_timeout=10)
    assert isinstance(outcome, RelayFault)
    assert server.journal == []


@pytest.mark.parametrize(
    ("mode", "step"),
    [("DATA", "mail"), ("DATA", "rcpt"), ("PIPELINING", "rcpt")]
    + [(mode, step) for mode in smtpfault.OFFERS for step in ("connect", "ehlo")],
    indirect=["mode"],
)
def test_more_answers_than_questions_are_not_believed(step):
    action = {"connect": raw(b"220 hi\r\n250 hi\r\n"), "ehlo": raw(b"250 hi\r\n250 hi\r\n")}
    with FaultServer({step: [action.get(step, raw(b"250 fine\r\n250 fine\r\n"))]}) as server:
        outcome = send_one(server)
    assert isinstance(outcome, RelayFault)
    assert server.journal == []


def test_a_refused_recipient_keeps_its_verdict_when_the_rest_has_none():
    with FaultServer({"rcpt": [say("550 5.1.1 no"), None, say("451 4.2.2 full")], "dot": [drop]}) as server:
        outcome = send_one(server, message("a@x.org", "b@x.org", "c@x.org"))
    assert kinds(outcome) == {"a@x.org": Kind.REJECTED, "b@x.org": Kind.NO_VERDICT, "c@x.org": Kind.DEFERRED}


def test_a_refusal_of_data_is_for_those_that_were_not_refused_before():
    with FaultServer({"rcpt": [say("550 5.1.1 no")], "data": [say("451 4.3.0 later")]}) as server:
        outcome = send_one(server, message("a@x.org", "b@x.org"))
    assert kinds(outcome) == {"a@x.org": Kind.REJECTED, "b@x.org": Kind.DEFERRED}


@pytest.mark.parametrize("mode", ["DATA"], indirect=True)
def test_without_a_recipient_there_is_no_data():
    with FaultServer({"rcpt": [say("550 5.1.1 no"), say("451 4.2.2 full")]}) as server:
        outcome = send_one(server, message("a@x.org", "b@x.org"))
    assert kinds(outcome) == {"a@x.org": Kind.REJECTED, "b@x.org": Kind.DEFERRED}
    assert server.verbs == ["EHLO", "MAIL", "RCPT", "RCPT", "QUIT"]


@pytest.mark.parametrize("mode", ["DATA", "PIPELINING"], indirect=True)
def test_only_a_failed_transaction_is_reset(mode):
    with FaultServer({"rcpt": [None, say("550 5.1.1 no")], "dot": [None, say("550 5.6.0 no")]}) as server:
        list(SmtpTransport(relay_of(server), connections=1).send([message() for _ in range(4)], always))
    mail = ["MAIL", "RCPT", "DATA"]
    failed = mail[:2] if mode == "DATA" else mail
    assert server.verbs == ["EHLO", *mail, *failed, "RSET", *mail, *mail, "QUIT"]


def test_a_flood_costs_no_memory():
    tracemalloc.start()
    with FaultServer({"ehlo": [flood]}) as server:
        outcome = send_one(server, timeout=5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome, RelayFault)
    assert peak < 2_000_000


def test_a_reply_that_comes_late_but_in_time_counts():
    with FaultServer({"dot": [accept_then(drip(b"250 2.0.0 queued at last\r\n", 0.02))]}) as server:
        outcome = send_one(server, data_timeout=10)
    assert str(the_reply(outcome)) == "250 2.0.0 queued at last"


@pytest.mark.parametrize("end", [drop, reset, say("421 4.4.2 idle for too long"), say("this is not SMTP")])
def test_a_connection_that_ended_between_two_mails_costs_nothing(end, mode):
    if mode == "BDAT":
        end = say("421 4.4.2 idle for too long")  # after anything else nobody knows how far the relay got
    asked = []
    with FaultServer({"mail": [None, end]}) as server:
        transport = SmtpTransport(relay_of(server), connections=1)
        outcomes = list(transport.send([message(), message()], lambda: not asked.append(1)))
    assert [kinds(outcome) for outcome in outcomes] == [{"ann@example.org": Kind.ACCEPTED}] * 2
    assert [accepted.connection for accepted in server.journal] == [1, 2]
    # Before the first connection and its mail; before the second mail, and again before and after reconnecting.
    assert len(asked) == 5


def test_a_farewell_said_ahead_ends_the_connection_without_harm():
    both = accept_then(raw(b"250 2.0.0 queued\r\n421 4.4.2 and goodbye\r\n"))
    with FaultServer({"dot": [both]}) as server:
        outcomes = list(SmtpTransport(relay_of(server), connections=1).send([message(), message()], always))
    assert [kinds(outcome) for outcome in outcomes] == [{"ann@example.org": Kind.ACCEPTED}] * 2
    assert [accepted.connection for accepted in server.journal] == [1, 2]


@pytest.mark.parametrize("mode", ["DATA", "PIPELINING"], indirect=True)
def test_a_failure_to_reset_ends_the_connection_without_harm():
    with FaultServer({"rcpt": [say("550 5.1.1 no")], "rset": [drop]}) as server:
        outcomes = list(SmtpTransport(relay_of(server), connections=1).send([message(), message()], always))
    assert [kinds(outcome)["ann@example.org"] for outcome in outcomes] == [Kind.REJECTED, Kind.ACCEPTED]


@pytest.mark.parametrize("mode", ["DATA", "PIPELINING"], indirect=True)
def test_a_fresh_connection_that_ends_is_not_tried_for_ever():
    with FaultServer({"mail": [None, drop, drop]}) as server:
        outcomes = list(SmtpTransport(relay_of(server), connections=1).send([message(), message()], always))
    assert [type(outcome) for outcome in outcomes] == [Replied, RelayFault]
    assert len(server.sessions) == 2


@pytest.mark.parametrize("answer", ["what?", "299 what?", "354 go on"])
def test_after_no_verdict_the_next_mail_gets_a_new_connection(answer):
    with FaultServer({"dot": [accept_then(say(answer))]}) as server:
        outcomes = list(SmtpTransport(relay_of(server), connections=1).send([message(), message()], always))
    assert [kinds(outcome)["ann@example.org"] for outcome in outcomes] == [Kind.NO_VERDICT, Kind.ACCEPTED]
    assert [accepted.connection for accepted in server.journal] == [1, 2]


def test_a_farewell_that_nobody_answers_takes_a_moment_only():
    with FaultServer({"quit": [listen_in_silence]}) as server:
        began = time.monotonic()
        outcome = send_one(server, timeout=30)
        assert time.monotonic() - began < 20
    assert kinds(outcome) == {"ann@example.org": Kind.ACCEPTED}


# --- what another client makes of the same relay -----------------------------------------------------------------


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize("answer", ["451 4.7.1 later", "550 5.7.1 never"])
def test_aiosmtplib_reads_the_same_refusals(step, answer):
    script = {step: say(answer)}
    with FaultServer(script) as server:
        ours = the_reply(send_one(server))
    with FaultServer(script) as server, pytest.raises(aiosmtplib.SMTPException) as refused:
        asyncio.run(_send_with_aiosmtplib(server, message()))
    theirs = refused.value
    if isinstance(theirs, aiosmtplib.SMTPRecipientsRefused):
        theirs = theirs.recipients[0]
    assert (ours.code, ours.text) == (theirs.code, theirs.message)


def test_aiosmtplib_puts_the_same_on_the_wire():
    one = message("a@x.org", "b@x.org", body=b".\r\n..dots\r\n.\r\n\r\n.end\r\n")
    with FaultServer() as server:
        send_one(server, one)
        asyncio.run(_send_with_aiosmtplib(server, one))
    ours, theirs = server.journal
    assert (ours.sender, ours.recipients, ours.data) == (theirs.sender, theirs.recipients, theirs.data)
    assert ours.data == one.data


async def _send_with_aiosmtplib(server, one):
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=server.port, start_tls=False, timeout=5)
    async with client:
        await client.sendmail(one.envelope.sender, list(one.envelope.recipients), one.data)
