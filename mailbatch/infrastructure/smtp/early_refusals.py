"""Mails whose commands were refused when they came early. They are sent again, alone, and the replies are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.domain.outcome import Replied
from mailbatch.infrastructure.smtp.errors import masked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome, Reply
    from mailbatch.infrastructure.smtp.transport_config import TransportConfig


class EarlyRefusals:
    """The mails of this kind that have no outcome yet. While there are any, no commands are sent ahead. See ADR 11."""

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._replies: dict[Claim, Reply] = {}

    def __bool__(self) -> bool:
        return bool(self._replies)

    def add(self, refused: Sequence[tuple[Message, Reply]]) -> None:
        """Add mails, each with the reply to its early commands."""
        self._replies |= {message.claim: reply for message, reply in refused}

    def compare(self, message: Message, outcome: Outcome) -> None:
        """Compare the reply to ``message`` with the one to its early commands.

        The same reply is a verdict on the mail. Another one shows that the relay takes no command ahead.
        """
        if (early := self._replies.pop(message.claim, None)) is None:
            return
        if isinstance(outcome, Replied) and any(v.reply.code != early.code for v in outcome.verdicts.values()):
            self._config.capabilities.forbid_ahead(self._config.relay.name, masked(str(early)))
            self._config.capabilities.note()
