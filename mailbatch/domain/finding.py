"""What is wrong with a job: the names of the findings, and how bad each is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


ALL_IS_WELL = "nothing is overdue, stuck or left behind"
"""What is said when a look finds nothing wrong."""
NO_PROGRESS, RELAY_AWAY, RELAY_REFUSES = "no_progress", "relay_away", "relay_refuses"
"""The names of the findings that are about the relay."""
RUN_DIED, NO_RUN, NO_TICK, LEASES_ENDED = "run_died", "no_run", "no_tick", "leases_ended"
MAILS_WAIT = "mails_wait"
"""The name of the one about a folder, or another thing that all mails share."""
REDIS_AWAY, IDLE_LOCK, FOREIGN_LOCK = "redis_away", "lock_without_run", "lock_of_another_database"
"""The names of those about what keeps a run from beginning."""


class Level(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Mail does not go, or the record is wrong: somebody must act, unless the next run mends it."""
    WARNING = "warning"
    """Something to know; it may pass by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong, since when, and what to do about it. ``name`` is the same each time it is found."""

    name: str
    level: Level
    what: str
    since: datetime | None
    advice: str
