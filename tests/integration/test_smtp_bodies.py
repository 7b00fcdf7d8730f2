"""Messages whose bytes are read in pieces: they arrive byte for byte, and what cuts them off takes nothing twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import smtpfault
from support.contents import Breaking, Cut
from support.mails import always, by_claim, kinds, message
from support.smtpfault import FaultServer, accept_then, after_reading, drop, reset, say

from mailbatch.domain.body import Body
from mailbatch.domain.outcome import ContentFault, Kind, NotSent, Replied
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport
from mailbatch.infrastructure.spool import Spool

MODES = list(smtpfault.OFFERS)
LINES = b"".join(b"." * (n % 3) + b"line %d of many\r\n" % n for n in range(75_000))
"""More than what the kernels hold between us and the relay; each third line begins with a dot."""


def transport_to(server, **settings):
    relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=20, data_timeout=20)
    return SmtpTransport(relay, **{"connections": 1, "window": 8} | settings)


def text_of(message):
    return b"".join(message.data.pieces())


@pytest.fixture(scope="module", params=MODES)
def server(request):
    with FaultServer(extensions=smtpfault.OFFERS[request.param]) as server:
        yield server


piece = st.lists(st.sampled_from([b"\r\n", b".", b"..", b"a", b"\r\n.\r\n", b"QUIT\r\n"]), max_size=4).map(b"".join)


@settings(max_examples=20)
@given(cut=st.lists(st.lists(piece, max_size=4), min_size=1, max_size=4))
def test_a_body_arrives_byte_for_byte_however_it_is_cut(server, cut):
    messages = [message(body=Body.of(b"text\r\n", Cut((*pieces, b"\r\n")), b"end\r\n")) for pieces in cut]
    server.journal.clear()
    outcomes = list(transport_to(server).send(messages, always))
    assert {kind for outcome in outcomes for kind in kinds(outcome).values()} == {Kind.ACCEPTED}
    assert [accepted.data for accepted in server.journal] == [text_of(m) for m in messages]


def test_many_mails_share_a_content_in_the_spool(server, tmp_path):
    shared = Spool(tmp_path).put([LINES])
    messages = [message(body=Body.of(b"%d\r\n" % n, shared, b"end\r\n")) for n in range(6)]
    server.journal.clear()
    outcomes = by_claim(transport_to(server, connections=2).send(messages, always))
    assert {kind for outcome in outcomes.values() for kind in kinds(outcome).values()} == {Kind.ACCEPTED}
    assert {accepted.data for accepted in server.journal} == {text_of(m) for m in messages}
    assert {accepted.options.split()[0] for accepted in server.journal} == {f"SIZE={len(messages[0].data)}"}


# --- cut off in the middle --------------------------------------------------------------------------------------------

BREAKS = {
    "body": {"drop": drop, "reset": reset, "421": say("421 4.3.2 closing"), "in it": after_reading(200_000, drop)},
    "dot": {"drop": drop, "reset": reset, "taken and dropped": accept_then(drop), "452": say("452 4.3.1 full")},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("step", "how"), [(step, how) for step, hows in BREAKS.items() for how in hows])
def test_a_relay_that_breaks_off_takes_nothing_twice(mode, step, how, tmp_path):
    spooled = Spool(tmp_path).put([LINES])
    bodies = [Body.of(b"%d\r\n" % n, *([spooled] if n % 2 else [])) for n in range(6)]
    messages = [message(body=body) for body in bodies]
    with FaultServer({step: [None, BREAKS[step][how]]}, extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server).send(messages, always))
    taken = [accepted.data for accepted in server.journal]
    assert len(set(taken)) == len(taken), "taken twice"
    assert outcomes.keys() == {m.claim for m in messages}
    for one in messages:
        said = set(kinds(outcome).values()) if isinstance(outcome := outcomes[one.claim], Replied) else set()
        if Kind.NO_VERDICT not in said:
            assert (Kind.ACCEPTED in said) == (text_of(one) in taken), outcome


@pytest.mark.parametrize("mode", MODES)
def test_without_a_permit_a_mail_that_has_begun_goes_out_whole_and_no_other_begins(mode, tmp_path):
    spooled = Spool(tmp_path).put([LINES])
    messages = [message(body=Body.of(b"%d\r\n" % n, spooled)) for n in range(4)]
    permits = iter([True, True])  # to open the connection, and for one mail
    with FaultServer(extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server).send(messages, lambda: next(permits, False)))
    assert [accepted.data for accepted in server.journal] == [text_of(messages[0])]
    assert [type(outcomes[m.claim]) for m in messages] == [Replied, NotSent, NotSent, NotSent]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("readable", [0, 200_000])
def test_a_content_that_cannot_be_read_costs_its_own_mail_and_no_other(mode, readable, caplog):
    small = [message() for _ in range(12)]
    broken = message(body=Body.of(b"text\r\n", Breaking(readable=readable), b"end\r\n"))
    messages = [*small[:6], broken, *small[6:]]
    with FaultServer(extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server).send(messages, always))
        server.wait_for(lambda: server.open_sessions == 0)
    assert sorted(accepted.data for accepted in server.journal) == sorted(m.data for m in small)
    fault = outcomes.pop(broken.claim)
    assert isinstance(fault, ContentFault)
    assert fault.reason == "Input/output error"
    assert {kind for outcome in outcomes.values() for kind in kinds(outcome).values()} == {Kind.ACCEPTED}
    assert "Input/output error" in caplog.text


@pytest.mark.parametrize("mode", ["DATA", "PIPELINING"])
def test_the_intent_of_a_mail_that_cannot_be_read_is_not_committed(mode):
    messages = [message(body=Body.of(b"text\r\n", Breaking())), message()]
    asked = []

    def commit_intent(claims):
        asked.extend(claims)
        return set(claims)

    with FaultServer(extensions=smtpfault.OFFERS[mode]) as server:
        outcomes = by_claim(transport_to(server, window=1).send(messages, always, commit_intent))
    assert isinstance(outcomes[messages[0].claim], ContentFault)
    assert asked == [messages[1].claim]
    assert len(server.journal) == 1
