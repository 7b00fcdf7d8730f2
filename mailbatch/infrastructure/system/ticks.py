"""How near two ticks of a schedule are, and when the last ones should have been."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cronsim import CronSim

from mailbatch.domain.schedule import Cron, Every

if TYPE_CHECKING:
    from mailbatch.domain.schedule import Schedule

_GAPS = 10
"""So many ticks ahead are looked at to find how near two of them can be."""


def nearest(when: Schedule, now: datetime) -> float:
    """Seconds between two ticks where they are nearest, as far as the next ten tell."""
    match when:
        case Every(seconds):
            return seconds
        case Cron(line, timezone):
            ticks = islice(CronSim(line, now.astimezone(ZoneInfo(timezone))), _GAPS + 1)
            return min((later - earlier).total_seconds() for earlier, later in pairwise(ticks))


def back(when: Schedule, now: datetime, ticks: int) -> datetime:
    """The point in time since which there should have been ``ticks`` ticks at least."""
    match when:
        case Every(seconds):
            return now - timedelta(seconds=seconds * ticks)
        case Cron(line, timezone):
            earlier = CronSim(line, now.astimezone(ZoneInfo(timezone)), reverse=True)
            return next(islice(earlier, ticks - 1, ticks))
