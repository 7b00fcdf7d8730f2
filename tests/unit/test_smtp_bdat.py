"""A relay that refuses a chunk and then reads it as commands: its answers to the chunk's lines accept no mail."""

from __future__ import annotations

import pytest
from support.mails import message

from mailbatch.domain.outcome import Kind, Replied
from mailbatch.infrastructure.smtp.dialogue.bdat import BdatDialogue
from mailbatch.infrastructure.smtp.errors import ChunkReadAsCommands, HungUp

FEATURES = {"8bitmime": "", "pipelining": "", "chunking": ""}
ACCEPTED = b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.0.0 queued\r\n"
REFUSED_CHUNK = b"250 2.1.0 ok\r\n550 5.1.1 no such user\r\n502 5.5.1 missing RCPT\r\n"


def begin(dialogue, *messages):
    for one in messages:
        dialogue.begin(one)
    while dialogue.out.pending:
        dialogue.bytes_sent(len(dialogue.out.chunk(4096)))


@pytest.fixture
def dialogue():
    """One whose relay has accepted a mail, then refused the chunk of another, with a third behind it."""
    dialogue = BdatDialogue("relay", FEATURES, 8)
    begin(dialogue, message("first@x.org"))
    dialogue.receive_data(ACCEPTED)
    begin(dialogue, message("refused@x.org"), message("behind@x.org"))
    dialogue.receive_data(REFUSED_CHUNK)
    dialogue.receive_data(b"500 5.5.1 a line of the chunk\r\n")
    return dialogue


def test_good_replies_to_lines_of_a_chunk_accept_no_mail(dialogue):
    with pytest.raises(ChunkReadAsCommands) as caught:
        dialogue.receive_data(b"250 2.0.0 a line\r\n250 2.0.0 a line\r\n250 2.0.0 a line\r\n")
    assert dialogue.connection_lost(caught.value) == []
    outcomes = {m.envelope.recipients[0]: outcome for m, outcome in dialogue.collect_outcomes()}
    assert isinstance(outcomes["behind@x.org"], Replied)
    assert outcomes["behind@x.org"].verdicts["behind@x.org"].kind is Kind.NO_VERDICT
    assert "read it as commands" in dialogue.mode_failure


def test_a_mail_behind_such_a_chunk_goes_again_if_the_relay_hangs_up_and_accepted_nothing(dialogue):
    dialogue.receive_data(b"500 5.5.1 another line\r\n")
    untouched = dialogue.connection_lost(HungUp("the relay closed the connection"))
    assert [one.envelope.recipients for one in untouched] == [("behind@x.org",)]


def test_nothing_is_sent_to_such_a_relay(dialogue):
    assert dialogue.is_ending
    assert dialogue.room == dialogue.out.pending == 0
