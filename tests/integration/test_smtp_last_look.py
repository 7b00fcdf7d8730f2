"""The last look: between a body and its end, when nothing that can be taken has gone out."""

from __future__ import annotations

import pytest
from support import smtpfault
from support.mails import always, by_claim, kinds, message
from support.smtpfault import FaultServer, after_reading, drop, reset, say
from support.waiting import wait_until

from mailbatch.domain.outcome import Kind, NotSent, RelayFault
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport

BODY = b"the very body\r\n"


@pytest.fixture(params=smtpfault.OFFERS, autouse=True)
def mode(request, monkeypatch):
    """What the relay of a test announces: each runs in all three dialogues."""
    monkeypatch.setattr(smtpfault, "EXTENSIONS", smtpfault.OFFERS[request.param])
    return request.param


def send(server, messages, commit_intent, **settings):
    relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=10, data_timeout=10)
    transport = SmtpTransport(relay, window=1, **settings)
    return by_claim(transport.send(messages, always, commit_intent))


def bodies_in(server):
    """How many sessions have read a body, and wait for its end."""
    return sum(BODY in session.buffer for session in server.sessions if not session.ended)


@pytest.mark.parametrize("connections", [1, 4])
def test_at_the_last_look_the_relay_has_the_body_and_not_its_end(connections):
    looked = []

    def commit_intent(claims):
        wait_until(lambda: bodies_in(server) >= len(claims), 10, "the relay has read the body")
        assert not [a for a in server.journal for claim in claims if str(claim.reservation_id).encode() in a.data]
        looked.extend(claims)
        return set(claims)

    messages = [message(body=BODY) for _ in range(8)]
    with FaultServer() as server:
        outcomes = send(server, messages, commit_intent, connections=connections)
    assert sorted(looked, key=str) == sorted((m.claim for m in messages), key=str)
    assert all(kinds(outcome) == {"ann@example.org": Kind.ACCEPTED} for outcome in outcomes.values())
    assert sorted(a.data for a in server.journal) == sorted(m.data for m in messages)


def test_while_one_commit_goes_on_other_connections_become_ready_and_share_the_next():
    commits = []

    def commit_intent(claims):
        commits.append(len(claims))
        if max(commits) < 3:
            server.stopping.wait(0.02)  # a commit
        return set(claims)

    messages = [message() for _ in range(40)]
    with FaultServer(extensions=smtpfault.OFFERS["PIPELINING"]) as server:
        outcomes = send(server, messages, commit_intent, connections=6)
    assert {kind for one in outcomes.values() for kind in kinds(one).values()} == {Kind.ACCEPTED}
    assert sum(commits) == 40
    assert max(commits) >= 3


def test_what_it_does_not_answer_is_withdrawn():
    messages = [message(body=BODY) for _ in range(6)]
    wanted = {m.claim for m in messages[::2]}
    with FaultServer() as server:
        outcomes = send(server, messages, wanted.intersection, connections=2)
    for one in messages:
        if one.claim in wanted:
            assert kinds(outcomes[one.claim]) == {"ann@example.org": Kind.ACCEPTED}
        else:
            assert outcomes[one.claim] == NotSent(one.claim)
    assert {a.data for a in server.journal} == {m.data for m in messages if m.claim in wanted}


@pytest.mark.parametrize("how", [drop, reset, say("421 4.3.2 closing"), say("250 2.0.0 queued")])
def test_a_relay_lost_before_the_last_look_is_over_took_nothing(how):
    def commit_intent(claims):
        wait_until(
            lambda: any(session.said for session in server.sessions) or not server.open_sessions,
            10,
            "the relay has read the body",
        )
        return set(claims)

    one = message(body=BODY)
    with FaultServer({"body": [after_reading(len(one.data), how)]}) as server:
        outcome = send(server, [one], commit_intent)[one.claim]
    assert isinstance(outcome, RelayFault), outcome
    assert server.journal == []


def test_a_relay_lost_after_it_leaves_no_verdict():
    one = message(body=BODY)
    with FaultServer({"dot": [drop]}) as server:
        outcome = send(server, [one], set)[one.claim]
    assert kinds(outcome) == {"ann@example.org": Kind.NO_VERDICT}


def test_a_mail_that_is_refused_before_its_body_needs_no_look():
    looked = []
    one = message(body=BODY)
    with FaultServer({"rcpt": [say("550 5.1.1 no")]}) as server:
        outcome = send(server, [one], lambda claims: looked.extend(claims) or set(claims))[one.claim]
    assert kinds(outcome) == {"ann@example.org": Kind.REJECTED}
    assert looked == []


def test_an_error_of_the_last_look_ends_the_stream_with_nothing_taken():
    def commit_intent(claims):
        raise RuntimeError("the database is gone")

    with FaultServer() as server:
        with pytest.raises(RuntimeError, match="the database is gone"):
            send(server, [message(body=BODY)], commit_intent)
        server.wait_for(lambda: server.open_sessions == 0)
    assert server.journal == []
