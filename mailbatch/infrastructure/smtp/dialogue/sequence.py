"""Distinguishes refusals of commands that came out of sequence from verdicts on the mail. See ADR 11."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.replies import names_sequence_error

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.dialogue.transaction import Transaction
    from mailbatch.infrastructure.smtp.replies import RawReply

_OUT_OF_SEQUENCE = range(500, 505)
"""The codes of a relay that did not expect the command (RFC 5321 §4.2.3)."""
_NEVER_OF_RECIPIENT = (500, 502, 503)
"""Codes that are no verdict on a recipient. 501 (a malformed address) and 504 (a domain without a dot, Postfix) are."""
_ANY_REFUSAL = range(500, 600)
_BAD_SEQUENCE = 503


class SequenceErrors:
    """For modes that send commands before the previous ones are answered. Each method takes the reply of a refusal."""

    def __init__(self) -> None:
        self._early_codes = {_BAD_SEQUENCE}

    def in_reset(self, one: Transaction, reply: RawReply, *, learns: bool = True) -> bool:
        """Return whether RSET was refused because it came early. Then the commands behind it are refused too.

        ``learns``: the reply certainly belongs to RSET, so it shows which code this relay uses for early commands.
        """
        if one.is_ahead and learns and reply.code in _ANY_REFUSAL:
            self._early_codes.add(reply.code)
        return one.is_ahead and (reply.code in self._early_codes or names_sequence_error(reply))

    def in_mail(self, one: Transaction, reply: RawReply, *, ahead_accepted: bool) -> bool:
        """Return whether MAIL was refused as out of sequence.

        ``ahead_accepted``: the relay has accepted a MAIL that was sent ahead.
        """
        if one.is_ahead and reply.code in (_OUT_OF_SEQUENCE if ahead_accepted else _ANY_REFUSAL):
            return True
        return names_sequence_error(reply)

    def in_rcpt(self, reply: RawReply) -> bool:
        """Return whether RCPT was refused as out of sequence."""
        return reply.code in _NEVER_OF_RECIPIENT or names_sequence_error(reply)

    def in_content(self, reply: RawReply) -> bool:
        """Return whether DATA or BDAT was refused as out of sequence."""
        return reply.code in _OUT_OF_SEQUENCE or names_sequence_error(reply)


class NoSequenceErrors(SequenceErrors):
    """For the mode in which each command waits for the previous reply: a refusal is always a verdict on the mail."""

    def in_mail(self, _one: Transaction, _reply: RawReply, *, ahead_accepted: bool) -> bool:  # noqa: ARG002, D102
        return False

    def in_rcpt(self, _reply: RawReply) -> bool:  # noqa: D102
        return False

    def in_content(self, _reply: RawReply) -> bool:  # noqa: D102
        return False
