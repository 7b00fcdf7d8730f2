"""One mail on its way through a session: what was asked of the relay for it, and what has been answered."""

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
    """Offsets count the bytes of the session."""

    message: Message
    commands: Sequence[bytes]
    has_reset: bool
    start: int
    is_ahead: bool = False
    """Whether its commands went out before the mail before it was answered."""
    asked: int = 0
    """How many commands are queued, the end of the body included."""
    answered: int = 0
    legit: int = 0
    """As many bytes must have gone out before a reply can be one to this mail."""
    end: int | None = None
    """The offset behind the last byte, once that is queued; beyond it the relay may take the mail."""
    refused: dict[str, Verdict] = field(default_factory=dict)
    confused: bool = False
    """Whether something was refused because the relay lost the thread."""
    closing: bool = False
    """Whether the relay said 421 to it."""
    well: bool = False
    """Whether MAIL was answered, with whatever sense."""
    unwanted: bool = False
    """Whether MAIL was refused."""
    in_body: bool = False
    """Whether the body is queued, and what comes next is the answer to its end."""

    @property
    def hopeless(self) -> bool:
        """Whether each recipient was refused."""
        return len(self.refused) == len(self.message.envelope.recipients)

    def question(self, back: int = 0) -> str:
        """What the next reply is the answer to, or one before it."""
        index = self.answered - back
        verb = self.commands[index][:4].decode("ascii") if index < len(self.commands) else "BDAT"
        return END if verb == "BDAT" else verb

    def verdicts(self, verdict: Verdict) -> dict[str, Verdict]:
        """``verdict`` for those that were not refused before."""
        if not self.refused:
            return dict.fromkeys(self.message.envelope.recipients, verdict)
        return {to: self.refused.get(to, verdict) for to in self.message.envelope.recipients}
