"""How many reservations there are in each state, how tries ended, and which jobs there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Census:
    """How many reservations are in each state and how many are due; ``exact`` unless a count met its cap.

    ``due``: pending, their time has come and has not passed. ``oldest_due_seconds``: for how long the oldest of these
    has been due.
    """

    counts: Mapping[Status, int]
    due: int
    oldest_due_seconds: float | None
    exact: bool

    @property
    def under_way(self) -> int:
        """How many are claimed by a run: on their way to the relay, or about to be."""
        return self.counts.get(Status.SENDING, 0)

    @property
    def unsent(self) -> int:
        """How many are due and not sent: those that wait and those that are under way. A run calls it ``remaining``."""
        return self.due + self.under_way


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Tries of one run that ended alike. ``example`` is the text of one of them, in full."""

    outcome: str
    reply_code: int | None
    enhanced_code: str | None
    count: int
    example: str | None


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A job as its schedule knows it: ``next_tick_at`` is None where no beat starts it."""

    name: str
    pause: Pause = Pause.NONE
    next_tick_at: datetime | None = None
