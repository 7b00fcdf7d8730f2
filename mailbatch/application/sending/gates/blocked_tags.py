"""The gate of blocked tags: an emergency stop for the mails of one tag."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.domain.gate import NotBefore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from mailbatch.application.ports.gating import Blocks
    from mailbatch.application.ports.system import Clock
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.message import Claim

READ_EVERY = 0.5
"""Seconds after which the blocks are read again."""


@dataclass(slots=True)
class BlockedTags:
    """The port ``Gate``: holds back mails of blocked tags until the block is lifted.

    It reads the blocks twice a second at most.
    """

    blocks: Blocks
    clock: Clock
    _blocked: frozenset[str] = field(default=frozenset(), init=False)
    _read_at: float = field(default=float("-inf"), init=False)

    def ask(self, mails: Sequence[ClaimedMail], now: datetime) -> Mapping[Claim, NotBefore]:  # noqa: ARG002 - port
        """Return the mails whose tag is blocked; see the port."""
        at = self.clock.monotonic()
        if at - self._read_at >= READ_EVERY:
            self._blocked = self.blocks.blocked()
            self._read_at = at
        if not self._blocked:
            return {}
        return {mail.claim: NotBefore(None, blocked(mail.tag)) for mail in mails if mail.tag in self._blocked}

    def reopen(self, limit: int) -> int:
        """Make mails of lifted blocks due again; see the port."""
        return self.blocks.reopen(limit)


def blocked(tag: str | None) -> str:
    """Return what a mail of a blocked tag waits for."""
    return f"the tag {tag} is blocked"
