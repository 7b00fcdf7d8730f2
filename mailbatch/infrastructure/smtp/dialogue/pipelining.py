"""PIPELINING (RFC 2920): all commands of a mail in one write, and the next mail's commands behind its body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.dialogue.dot_body import DATA, DotBodyDialogue
from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode
from mailbatch.infrastructure.smtp.replies import START_BODY

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.dialogue.transaction import Transaction


class PipeliningDialogue(DotBodyDialogue):
    """Two mails in flight: the body of one, and the commands of the next."""

    mode = DialogueMode.PIPELINING

    def _queue_mail(self, one: Transaction) -> None:
        one.commands.append(DATA)
        self.out.queue(b"".join(one.commands))
        one.expected, one.earliest_reply = len(one.commands), one.start + 1

    def _take_good(self, one: Transaction) -> bool:
        if one.end is not None:
            return self._take_good_end(one)
        count = one.expected - one.received
        if not count or one.refused or not self._takes_groups or self.out.sent <= one.start:
            return False
        if self._replies.read_good(count, START_BODY) is None:
            return False
        one.received, one.mail_answered = one.expected, True
        self.ahead_accepted |= one.is_ahead
        self.progress += 1
        self._queue_body(one)
        return True

    def _trust(self) -> None:
        self.sends_ahead = self._window > 1
