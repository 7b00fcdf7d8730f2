"""When the next run begins, as far as that is known: the same on every screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

GRACE = 10.0
"""Seconds by which a tick may be late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRun:
    """When beat means to start the next run; while the ticks are ``paused`` there is none.

    ``at`` is None if no beat has run yet. ``due_in``: seconds until then by the database's clock, negative if that time
    has passed.
    """

    at: datetime | None
    due_in: float | None
    paused: bool = False

    @property
    def planned(self) -> datetime | None:
        """When beat means to start it; None while the ticks are paused."""
        return None if self.paused else self.at

    @property
    def to_come(self) -> datetime | None:
        """When beat means to start it, if that is still to come."""
        return self.planned if self.due_in is not None and self.due_in > 0 else None

    @property
    def late(self) -> float | None:
        """For how many seconds its time is over, if that is so long that beat seems to be away."""
        over = None if self.planned is None or self.due_in is None else -self.due_in
        return over if over is not None and over > GRACE else None

    @property
    def due_now(self) -> bool:
        """Whether its time has come, and beat is only about to see it."""
        return self.planned is not None and self.due_in is not None and self.due_in <= 0 and self.late is None

    def told(self, moment: Callable[[datetime], str]) -> str:
        """The same in words; ``moment`` writes a time."""
        if self.paused:
            return "none while it is paused"
        if self.at is None:
            return "not known: no beat has run yet"
        if self.due_now:
            return "due now"
        return moment(self.at) + ("; that is over: is a beat running?" if self.late is not None else "")
