"""One mail on its way over a connection: which commands were queued for it, and which replies have come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.message import Message
    from mailbatch.domain.outcome import Verdict

END = "the end of the body"


@dataclass(eq=False, slots=True)
class Transaction:
    """A mail transaction (RFC 5321 §3.3). Offsets count the bytes sent over the connection."""

    message: Message
    commands: list[bytes]
    """RSET where it is needed, MAIL, a RCPT for each recipient, and DATA or BDAT."""
    has_reset: bool
    start: int
    """The offset of its first byte."""
    recipients: Sequence[str]
    """Those of the message that it goes to now: the relay may take fewer in one mail."""
    is_ahead: bool = False
    """Whether its commands were sent before the previous mail was answered."""
    expected: int = 0
    """How many replies the queued commands get; the end of the body counts as a command."""
    received: int = 0
    """How many replies came."""
    earliest_reply: int = 0
    """The next reply can come only when the bytes up to this offset were sent."""
    end: int | None = None
    """The offset behind the last byte, once it is queued; when that byte was sent, the relay may take the mail."""
    refused: dict[str, Verdict] = field(default_factory=dict)
    out_of_sequence: bool = False
    """Whether something was refused because commands came out of sequence."""
    heard_closing: bool = False
    """Whether the relay ended the connection in a reply to this mail."""
    mail_answered: bool = False
    """Whether a reply to MAIL came, a good one or not."""
    sender_refused: bool = False
    body_queued: bool = False
    """Whether the next reply is the one to the end of the body."""

    @property
    def all_refused(self) -> bool:
        """Whether each recipient was refused."""
        return len(self.refused) == len(self.message.envelope.recipients)

    def awaited(self, back: int = 0) -> str:
        """Name the command that the next reply belongs to, or the one ``back`` replies before."""
        index = self.received - back
        verb = self.commands[index][:4].decode("ascii") if index < len(self.commands) else "BDAT"
        return END if verb == "BDAT" else verb

    def verdicts(self, verdict: Verdict) -> dict[str, Verdict]:
        """Return ``verdict`` for each recipient that was not refused before."""
        if not self.refused:
            return dict.fromkeys(self.message.envelope.recipients, verdict)
        return {to: self.refused.get(to, verdict) for to in self.message.envelope.recipients}
