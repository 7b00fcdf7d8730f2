"""A mail whose own bytes cannot be read to their end: the relay does not take it, and no other mail pays for it."""

from __future__ import annotations

import pytest
from support.contents import Breaking
from support.mails import message

from mailbatch.domain.body import Body
from mailbatch.domain.outcome import ContentFault, Kind, Replied
from mailbatch.infrastructure.smtp.dialogue.bdat import BdatDialogue
from mailbatch.infrastructure.smtp.dialogue.data import DataDialogue
from mailbatch.infrastructure.smtp.dialogue.pipelining import PipeliningDialogue
from mailbatch.infrastructure.smtp.errors import BodyUnreadable, HungUp, RelayError

FEATURES = {"8bitmime": "", "pipelining": "", "chunking": ""}


def broken(to):
    return message(to, body=Body.of(b"text\r\n", Breaking(400, 200), b"end\r\n"))


def send(dialogue):
    """Send what is queued, as a connection does; return it, and the mails that are given back."""
    sent = b""
    try:
        while dialogue.out.pending:
            chunk = bytes(dialogue.out.chunk(100))
            dialogue.bytes_sent(len(chunk))
            sent += chunk
    except BodyUnreadable as error:
        return sent, dialogue.body_unreadable(error)
    return sent, []


def outcomes(dialogue):
    return {m.envelope.recipients[0]: outcome for m, outcome in dialogue.collect_outcomes()}


def is_accepted(outcome):
    return isinstance(outcome, Replied) and {v.kind for v in outcome.verdicts.values()} == {Kind.ACCEPTED}


def test_after_data_the_end_of_the_body_is_not_sent():
    for kind in (DataDialogue, PipeliningDialogue):
        dialogue = kind("relay", FEATURES, 8)
        dialogue.begin(broken("broken@x.org"))
        for reply in (b"250 ok\r\n", b"250 ok\r\n"):
            send(dialogue)
            dialogue.receive_data(reply)
        send(dialogue)
        dialogue.receive_data(b"354 go on\r\n")
        with pytest.raises(BodyUnreadable) as caught:
            send(dialogue)
        assert dialogue.connection_lost(caught.value) == []
        (outcome,) = outcomes(dialogue).values()
        assert isinstance(outcome, ContentFault)
        assert outcome.reason == "Input/output error"


@pytest.mark.parametrize("kind", [DataDialogue, PipeliningDialogue])
def test_a_held_back_end_is_not_asked_for(kind):
    dialogue = kind("relay", FEATURES, 1, waits_for_intent=True)
    dialogue.begin(broken("broken@x.org"))
    for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go on\r\n"):
        send(dialogue)
        dialogue.receive_data(reply)
    assert dialogue.awaiting_intent is None
    with pytest.raises(BodyUnreadable):
        send(dialogue)


@pytest.fixture
def three():
    """BDAT with three mails in flight, of which the one in the middle breaks; and the mails that were given back."""
    dialogue = BdatDialogue("relay", FEATURES, 8)
    dialogue.begin(message("first@x.org"))
    send(dialogue)
    dialogue.receive_data(b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.0.0 queued\r\n")
    dialogue.collect_outcomes()
    for one in (message("before@x.org"), broken("broken@x.org"), message("behind@x.org")):
        dialogue.begin(one)
    sent, back = send(dialogue)
    assert sent.count(b"LAST") == 2
    assert not sent.endswith(b"end\r\n")
    return dialogue, [one.envelope.recipients[0] for one in back]


BEFORE = b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.0.0 queued\r\n"


def test_bdat_gives_back_what_is_behind_and_hears_what_is_before(three):
    dialogue, back = three
    assert back == ["behind@x.org"]
    assert dialogue.room == dialogue.out.pending == 0
    with pytest.raises(BodyUnreadable) as caught:
        dialogue.receive_data(BEFORE + b"250 2.0.0 reset\r\n250 2.1.0 ok\r\n")
    assert dialogue.connection_lost(caught.value) == []
    found = outcomes(dialogue)
    assert is_accepted(found["before@x.org"])
    assert isinstance(found["broken@x.org"], ContentFault)


def test_a_mail_before_it_is_in_doubt_only_if_the_relay_stays_silent(three):
    dialogue, _ = three
    assert dialogue.connection_lost(HungUp("the relay closed the connection")) == []
    found = outcomes(dialogue)
    assert {v.kind for v in found["before@x.org"].verdicts.values()} == {Kind.NO_VERDICT}
    assert isinstance(found["broken@x.org"], ContentFault)


def test_a_relay_that_answers_the_unfinished_chunk_breaks_the_protocol(three):
    dialogue, _ = three
    with pytest.raises(RelayError, match="before the end of the body"):
        dialogue.receive_data(BEFORE + b"250 2.0.0 reset\r\n" + BEFORE)
    dialogue.connection_lost(HungUp("closed"))
    assert isinstance(outcomes(dialogue)["broken@x.org"], ContentFault)


def test_each_megabyte_of_a_body_has_its_own_time_allowance():
    dialogue = BdatDialogue("relay", FEATURES, 1)
    dialogue.begin(message(body=(b"x" * 98 + b"\r\n") * 30_000))
    began, steps = dialogue.progress, 0
    while dialogue.out.pending > 1000:
        dialogue.bytes_sent(len(dialogue.out.chunk(1000)))
        steps += 1
    assert (dialogue.progress - began, steps) == (2, 3000)
