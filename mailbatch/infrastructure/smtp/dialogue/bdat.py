"""BDAT (RFC 3030) with PIPELINING: whole mails, one behind the other, without waiting for replies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.domain.outcome import Reply
from mailbatch.infrastructure.smtp.dialogue.base import Dialogue, refused_by
from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode
from mailbatch.infrastructure.smtp.dialogue.transaction import END
from mailbatch.infrastructure.smtp.errors import ChunkReadAsCommands, ProtocolViolation, RelayError
from mailbatch.infrastructure.smtp.replies import OK, printable

if TYPE_CHECKING:
    from typing import Any

    from mailbatch.domain.message import Message
    from mailbatch.infrastructure.smtp.dialogue.transaction import Transaction
    from mailbatch.infrastructure.smtp.replies import RawReply

_POSITIVE = (2, 3)
"""The first digits of a reply that is no refusal."""


class BdatDialogue(Dialogue):
    """Up to ``window`` mails in flight.

    A relay must read and discard a chunk that it refuses (RFC 3030 §2). Some relays read it as commands instead, and
    reply to each of its lines. These replies come before the replies to what was sent behind the chunk. When such a
    reply is noticed, nothing more is sent, and replies are only read until the relay hangs up. See ADR 11.
    """

    mode = DialogueMode.BDAT
    # A failed transaction may stay open (RFC 3030 §3), and how the mails in flight end is not known yet. With RSET the
    # next mail can never be added to what is left of the last one.
    _resets_behind_others = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chunk_refused = False
        """Whether the last chunk was refused, and nothing shows yet that the relay read and discarded it."""
        self._read_as_commands: ChunkReadAsCommands | None = None
        """Set when it shows that the relay reads refused chunks as commands."""

    @property
    def is_ending(self) -> bool:
        """Whether nothing more is sent, and replies are only read until the relay hangs up."""
        return self._read_as_commands is not None or super().is_ending

    def connection_lost(self, error: RelayError) -> list[Message]:
        """Decide the mails in flight, and whether the relay reads chunks as commands."""
        untouched = super().connection_lost(error)
        if self._read_as_commands is not None:
            self.mode_failure = str(self._read_as_commands)
        elif self._chunk_refused and not self.idle_at_loss:
            self.mode_failure = f"after it refused a chunk, {self.closing or error}"
        return untouched

    # --- hooks ---------------------------------------------------------------------------------------------------

    def _queue_mail(self, one: Transaction) -> None:
        data = one.message.data
        one.commands.append(b"BDAT %d LAST\r\n" % len(data))
        self.out.queue(b"".join(one.commands))
        if isinstance(data, bytes):
            self.out.queue(data)
        else:
            self.out.queue_stream(len(data), data.pieces())
        one.expected, one.earliest_reply, one.end = len(one.commands), one.start + 1, self.out.queued

    def _take_good(self, one: Transaction) -> bool:
        if one.refused or not self._takes_groups or self.out.sent < (one.end or 0):
            return False
        if (text := self._replies.read_good(one.expected - one.received, OK)) is None:
            return False
        self.ahead_accepted |= one.is_ahead
        self.progress += 1
        self._accept(one, Reply(OK, printable(text)))
        self._chunk_refused = False
        return True

    def _trust(self) -> None:
        self._most_in_flight = self._window
        self.least_room = (self._window + 7) // 8

    def _hears_out(self) -> bool:
        return len(self._transactions) > 1 or self._transactions[0].received != self._transactions[0].expected

    def _content_answered(self, one: Transaction, reply: RawReply) -> None:
        if reply.code == OK and not one.all_refused:
            self._accept(one, reply.decoded())
            self._chunk_refused = False
            return
        self._needs_reset = True
        if reply.code != OK:
            self._chunk_refused = True
        if not one.all_refused:
            self._chunk_not_taken(one, reply)
        elif reply.code == OK and one.sender_refused:
            one.refused.clear()  # it is unknown for which recipients the relay took the mail
            raise ProtocolViolation(f"the relay refused MAIL and took the message all the same: {reply.decoded()}")
        else:
            self._finish(one)

    def _chunk_not_taken(self, one: Transaction, reply: RawReply) -> None:
        verdict = refused_by(END, reply)
        if self._sequence.in_content(reply):
            self._refuse_out_of_sequence(one, verdict)
        self._finish(one, verdict)

    def _reset_answered(self, one: Transaction, reply: RawReply) -> None:
        if reply.code == OK:
            self._chunk_refused = False
        elif self._chunk_refused and self.closing is None:
            # Perhaps this is the reply to a line of the chunk.
            if self._sequence.in_reset(one, reply, learns=False):
                one.out_of_sequence = True
            else:
                self._listen_only(reply)
            return
        super()._reset_answered(one, reply)

    # --- a chunk that was read as commands -----------------------------------------------------------------------

    def _listen_only(self, reply: RawReply) -> None:
        """Send nothing more, because ``reply`` belongs to a line of the chunk.

        The replies that still come show whether the relay took a mail behind the chunk.
        """
        self._read_as_commands = ChunkReadAsCommands(
            f"the relay refused a chunk and read it as commands: {reply.decoded()}"
        )
        self._may_begin = self._takes_groups = False
        self.out.clear()

    def _take(self, reply: RawReply) -> None:
        if self._read_as_commands is None:
            super()._take(reply)
        elif reply.code // 100 in _POSITIVE:
            raise self._read_as_commands

    def _may_answer(self) -> bool:
        return self._read_as_commands is not None or super()._may_answer()

    def _unexpected(self, text: str) -> RelayError:
        if self._chunk_refused and not self._transactions:
            self._read_as_commands = ChunkReadAsCommands(f"the relay refused a chunk and read it as commands{text}")
            return self._read_as_commands
        return super()._unexpected(text)
