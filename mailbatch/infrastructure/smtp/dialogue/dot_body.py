"""What both modes with DATA share: the relay asks for the body by 354, and a line with only a dot ends the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.domain.outcome import Reply
from mailbatch.infrastructure.smtp.dialogue.base import Dialogue, refused_by
from mailbatch.infrastructure.smtp.dialogue.transaction import END
from mailbatch.infrastructure.smtp.envelope import dot_stuffed, dot_stuffed_pieces
from mailbatch.infrastructure.smtp.replies import OK, START_BODY, printable

if TYPE_CHECKING:
    from mailbatch.domain.message import Message
    from mailbatch.infrastructure.smtp.dialogue.transaction import Transaction
    from mailbatch.infrastructure.smtp.replies import RawReply


DATA = b"DATA\r\n"


class DotBodyDialogue(Dialogue):
    """A dialogue that sends bodies by DATA (RFC 5321 §4.1.1.4)."""

    @property
    def awaiting_intent(self) -> Message | None:
        """The mail whose body was sent except for its end, while that end is held back; else None."""
        if not self._waits_for_intent or not self._transactions or self.out.pending:
            return None
        one = self._transactions[0]
        return one.message if one.body_queued and one.end is None else None

    def send_end(self) -> None:
        """Queue the end of the body that was held back; from then on the relay may take the mail."""
        self._queue_end(self._transactions[0])

    def _take_good_end(self, one: Transaction) -> bool:
        """Take the reply to the end of the body, if it is here and good."""
        if one.end is None or one.refused or not self._takes_groups or self.out.sent < one.end:
            return False
        if (text := self._replies.read_good(1, OK)) is None:
            return False
        self.progress += 1
        self._accept(one, Reply(OK, printable(text)))
        return True

    def _content_answered(self, one: Transaction, reply: RawReply) -> None:
        if one.received > len(one.commands):
            self._end_answered(one, reply)
        else:
            self._data_answered(one, reply)

    def _data_answered(self, one: Transaction, reply: RawReply) -> None:
        if reply.code == START_BODY:
            self._queue_body(one)
            return
        verdict = refused_by("DATA", reply)
        self._needs_reset = True
        if not one.all_refused and self._sequence.in_content(reply):
            self._refuse_out_of_sequence(one, verdict)
        self._finish(one, verdict)

    def _end_answered(self, one: Transaction, reply: RawReply) -> None:
        if one.all_refused:
            self._finish(one)
        elif reply.code == OK:
            self._accept(one, reply.decoded())
        else:
            self._finish(one, refused_by(END, reply))

    def _queue_body(self, one: Transaction) -> None:
        data = one.message.data
        if one.all_refused:
            pass  # RFC 2920 §3.1: a relay that refused every recipient may accept DATA. Then an empty body is sent.
        elif isinstance(data, bytes):
            self.out.queue(dot_stuffed(data))
        else:
            self.out.queue_stream(len(data) + data.lines.dotted, dot_stuffed_pieces(data))
        one.body_queued = True
        if not self._waits_for_intent or one.all_refused:
            self._queue_end(one)

    def _queue_end(self, one: Transaction) -> None:
        self.out.queue(b".\r\n")
        one.expected += 1
        one.earliest_reply = one.end = self.out.queued
