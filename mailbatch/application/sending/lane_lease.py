"""The lease of a lane: until when it may act on what it has claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.ports.sending import Backlog
    from mailbatch.application.ports.system import Clock

LEASE_SHARE = 0.9
"""The share of a lease after which its holder begins nothing more, because clocks differ a little."""


class LaneLease:
    """Measures the lease on this machine's own clock. ``seconds``: how long the database grants it.

    A lane that was frozen for longer sends nothing more, even before it could learn that another run holds its mails.
    """

    def __init__(self, backlog: Backlog, clock: Clock, seconds: float, run_id: UUID, lane: int) -> None:
        self.ends = float("inf")
        """A point on the clock."""
        self._backlog = backlog
        self._clock = clock
        self._seconds = seconds * LEASE_SHARE
        self._run_id = run_id
        self._lane = lane

    def begin(self, requested_at: float, *, holds_more: bool) -> None:
        """Begin the lease of a claim that was requested at ``requested_at``.

        ``holds_more``: the lane also holds older claims. Their lease is not longer for it.
        """
        ends = requested_at + self._seconds
        self.ends = min(self.ends, ends) if holds_more else ends

    def has_ended(self) -> bool:
        """Return whether the lane may begin nothing more with its claims."""
        return self._clock.monotonic() >= self.ends

    def renew(self) -> None:
        """Prolong the lease in the database. A lease that has ended stays ended."""
        requested_at = self._clock.monotonic()
        self._backlog.renew(self._run_id, self._lane)
        if requested_at < self.ends:
            self.ends = requested_at + self._seconds
