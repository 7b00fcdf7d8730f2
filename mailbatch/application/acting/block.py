"""Block a tag, and lift the block: the emergency stop for the mails of one tag. A block lasts until it is lifted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.checks import line_problems
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.limits import LONGEST_KEY

if TYPE_CHECKING:
    from mailbatch.application.acting.audit import Audit
    from mailbatch.application.ports.gating import Blocks
    from mailbatch.application.ports.system import Clock

LONGEST_NOTE = 500
"""Characters of a note."""
REOPENED_AT_ONCE = 1_000
"""Mails that are made due again in one transaction."""
REOPENS_FOR = 2.0
"""Seconds for which a caller waits while mails are made due again. The next run does the rest."""


@dataclass(frozen=True, slots=True)
class BlockTag:
    """Blocks tags and lifts blocks. Each call is recorded; to block or to lift twice changes nothing more."""

    blocks: Blocks
    audit: Audit
    clock: Clock

    def block(self, actor: str, tag: str, note: str | None = None) -> bool:
        """Hold back the mails of ``tag``, also those that are reserved later. Return False if it was blocked already.

        Raises:
            InvalidReservation: the tag or the note is empty, too long, or not one line.
        """
        note = note or None
        _ensure(tag, note)
        with self.audit.around(actor, "block", {"tag": tag}):
            return self.blocks.block(tag, actor, note)

    def lift(self, actor: str, tag: str) -> bool:
        """Let the mails of ``tag`` go. Return False if it was not blocked. Raises ``InvalidReservation``."""
        _ensure(tag, None)
        with self.audit.around(actor, "unblock", {"tag": tag}):
            if not self.blocks.lift(tag):
                return False
            until = self.clock.monotonic() + REOPENS_FOR
            while self.blocks.reopen(REOPENED_AT_ONCE) >= REOPENED_AT_ONCE and self.clock.monotonic() < until:
                pass
            return True


def _ensure(tag: str, note: str | None) -> None:
    problems = [*line_problems("tag", tag, longest=LONGEST_KEY), *line_problems("note", note, longest=LONGEST_NOTE)]
    if not tag.strip():
        problems.append("tag: must not be empty")
    if problems:
        raise InvalidReservation(problems)
