"""The place of one connection: it stays empty for a while after a fault, for longer each time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mailbatch.domain.reply_kinds import Concern, concern_of
from mailbatch.infrastructure.smtp.errors import NoSlot

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.connection import Connection
    from mailbatch.infrastructure.smtp.errors import RelayError

NO_SLOT_PAUSE = 0.5
"""Seconds before another connection is tried, when the connection limit of the relay is reached."""


class Backoff:
    """Seconds to wait after a fault, doubled each time, until something works."""

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = self._next = first
        self._longest = longest

    def pause(self) -> float:
        """Return the seconds to wait now."""
        pause = self._next
        self._next = min(pause * 2, self._longest)
        return pause

    def reset(self) -> None:
        """Begin anew: it works."""
        self._next = self._first


class Place:
    """Has at most one ``connection`` at a time. One that only waits for the reply to QUIT has left it."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.rests_until = 0.0
        """Nothing is opened before; on the monotonic clock."""
        self._after_fault = Backoff()
        self._after_limit = Backoff(1.0, 30.0)

    def works(self) -> None:
        """A mail was answered."""
        self._after_fault.reset()

    def rest_after_fault(self) -> None:
        """Open nothing for a while, because the relay failed."""
        self._rest(self._after_fault.pause())

    def rest_after_limit(self) -> None:
        """Open nothing for a while, because the relay said that it has too many connections."""
        self._rest(self._after_limit.pause())

    def rest_after_refused_connection(self, error: RelayError) -> None:
        """Open nothing for a while, because the connection could not be opened."""
        if isinstance(error, NoSlot):
            self._rest(NO_SLOT_PAUSE)
        elif error.reply is not None and concern_of(error.reply) is Concern.CONNECTION:
            self.rest_after_limit()
        else:
            self.rest_after_fault()

    def _rest(self, seconds: float) -> None:
        self.rests_until = time.monotonic() + seconds
