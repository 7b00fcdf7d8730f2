"""The mails that a transport has pulled: those that are ready to be sent, and the outcomes not collected yet."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mailbatch.domain.outcome import NotSent, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.body import Body
    from mailbatch.domain.message import Message


class MailQueue:
    """Each mail has one outcome; until then it counts in ``unsettled``, ``bytes`` and ``bytes_elsewhere``."""

    def __init__(self) -> None:
        self.ready: deque[Message] = deque()
        self.unsettled = 0
        """Mails without an outcome: ready, or in flight."""
        self.bytes = 0
        """How many bytes of the unsettled mails are in memory."""
        self.bytes_elsewhere = 0
        """How many bytes of the unsettled mails are read only when they are sent."""
        self.outcomes: list[Outcome] = []

    def add(self, message: Message) -> None:
        """Add a mail that was pulled."""
        self.unsettled += 1
        if isinstance(message.data, bytes):
            self.bytes += len(message.data)
        else:
            self._count(message.data, 1)
        self.ready.append(message)

    def settle(self, message: Message, outcome: Outcome) -> None:
        """Note the outcome of ``message``."""
        self.unsettled -= 1
        if isinstance(message.data, bytes):
            self.bytes -= len(message.data)
        else:
            self._count(message.data, -1)
        self.outcomes.append(outcome)

    def _count(self, body: Body, sign: int) -> None:
        self.bytes += sign * body.held
        self.bytes_elsewhere += sign * (body.size - body.held)

    def refuse_next(self) -> None:
        """Settle the next mail, because it may not be sent."""
        message = self.ready.popleft()
        self.settle(message, NotSent(message.claim))

    def put_back(self, messages: Sequence[Message]) -> None:
        """Make ``messages`` the next ones, in their order."""
        self.ready.extendleft(reversed(messages))

    def collect(self) -> list[Outcome]:
        """Return the outcomes since the last call."""
        outcomes, self.outcomes = self.outcomes, []
        return outcomes
