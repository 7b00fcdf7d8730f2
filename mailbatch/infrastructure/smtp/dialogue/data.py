"""DATA, one command at a time (RFC 5321): each command waits for the reply to the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.dialogue.dot_body import DATA, DotBodyDialogue
from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode
from mailbatch.infrastructure.smtp.dialogue.sequence import NoSequenceErrors

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.dialogue.transaction import Transaction


class DataDialogue(DotBodyDialogue):
    """One mail in flight. Works with every relay."""

    mode = DialogueMode.DATA
    _sequence_errors = NoSequenceErrors

    def _queue_mail(self, one: Transaction) -> None:
        one.commands.append(DATA)
        self._proceed(one)

    def _proceed(self, one: Transaction) -> None:
        if one.sender_refused:
            self._finish(one)
        elif one.refused and one.all_refused and one.expected == len(one.commands) - 1:
            # Each RCPT was refused. DATA is not sent, and the transaction stays open.
            self._needs_reset = True
            self._finish(one)
        elif one.expected < len(one.commands):
            self.out.queue(one.commands[one.expected])
            one.expected += 1
            one.earliest_reply = self.out.queued

    def _take_good(self, one: Transaction) -> bool:
        return one.end is not None and self._take_good_end(one)
