"""What a dialogue makes of replies, and of being asked: without a relay."""

from __future__ import annotations

import pytest
from support.mails import message

from mailbatch.domain.outcome import Kind, RelayFault, Replied
from mailbatch.infrastructure.smtp.dialogue.bdat import BdatDialogue
from mailbatch.infrastructure.smtp.dialogue.data import DataDialogue
from mailbatch.infrastructure.smtp.dialogue.pipelining import PipeliningDialogue
from mailbatch.infrastructure.smtp.errors import RelayError

FEATURES = {"8bitmime": "", "pipelining": "", "chunking": ""}
MODES = pytest.mark.parametrize("kind", [DataDialogue, PipeliningDialogue, BdatDialogue])


def send_all(dialogue):
    while dialogue.out.pending:
        dialogue.bytes_sent(len(dialogue.out.chunk(4096)))


@MODES
def test_a_mail_of_which_nothing_was_sent_is_given_back(kind):
    dialogue, mail = kind("relay", FEATURES, 8), message()
    dialogue.begin(mail)
    assert dialogue.take_back() == [mail]
    assert (dialogue.mails_begun, dialogue.out.pending) == (0, 0)


@MODES
def test_a_mail_that_was_begun_stays(kind):
    dialogue = kind("relay", FEATURES, 8)
    dialogue.begin(message())
    dialogue.bytes_sent(len(dialogue.out.chunk(1)))
    assert dialogue.take_back() == []
    assert dialogue.mails_begun == 1


@MODES
def test_the_last_byte_that_is_taken_is_progress(kind):
    dialogue = kind("relay", FEATURES, 8)
    dialogue.begin(message())
    before = dialogue.progress
    send_all(dialogue)
    assert dialogue.progress > before


def test_a_reply_to_a_command_that_was_not_sent_is_not_believed():
    dialogue = DataDialogue("relay", FEATURES, 8)
    dialogue.begin(message())
    send_all(dialogue)
    with pytest.raises(RelayError, match="the relay said more than it was asked"):
        dialogue.receive_data(b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n")


def test_a_chunk_that_is_refused_for_its_content_is_a_verdict_on_the_mail():
    dialogue, mail = BdatDialogue("relay", FEATURES, 8), message()
    dialogue.begin(mail)
    send_all(dialogue)
    dialogue.receive_data(b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n554 5.7.1 looks like spam\r\n")
    [(answered, outcome)] = dialogue.collect_outcomes()
    assert isinstance(outcome, Replied)
    assert (answered, {v.kind for v in outcome.verdicts.values()}) == (mail, {Kind.REJECTED})
    assert (dialogue.mails_answered, dialogue.sequence_error) == (1, None)


def test_a_relay_that_closes_says_so_with_the_command_that_it_answered():
    dialogue = BdatDialogue("relay", FEATURES, 8)
    dialogue.begin(message())
    send_all(dialogue)
    with pytest.raises(RelayError, match=r"the relay is closing \(at the end of the body\): 421 4.3.2 bye"):
        dialogue.receive_data(b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n421 4.3.2 bye\r\n")


@pytest.mark.parametrize("allowed", [True, False])
def test_after_the_first_answer_mails_go_ahead_unless_that_was_forbidden(allowed):
    dialogue = BdatDialogue("relay", FEATURES, 8)
    dialogue.allow_ahead(allowed=allowed)
    dialogue.begin(message())
    send_all(dialogue)
    dialogue.receive_data(b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.0.0 queued\r\n")
    assert (dialogue.mails_answered, dialogue.room) == (1, 8 if allowed else 1)


def test_a_fault_before_a_mails_dialogue_is_not_one_of_its_dialogue():
    dialogue, mail = DataDialogue("relay", FEATURES, 8), message()
    dialogue.blame(mail, RelayError("no greeting"))
    [(blamed, fault)] = dialogue.collect_outcomes()
    assert isinstance(fault, RelayFault)
    assert (blamed, fault.reason, fault.in_dialogue) == (mail, "no greeting", False)
