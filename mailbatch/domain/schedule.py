"""When a batch runs by itself: every so many seconds, or by a cron line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Every:
    """Every ``seconds``, counted from the last tick."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron line of 5 fields, or of 6 with the seconds first, read in the time zone ``timezone``."""

    line: str
    timezone: str = "UTC"


Schedule: TypeAlias = Every | Cron


class RunAtStart(StrEnum):
    """Whether the start of a beat ticks."""

    AUTO = "auto"
    """An interval ticks at each start, a cron line only if one of its ticks was missed."""
    YES = "yes"
    NO = "no"
    """A start never ticks; a tick that was missed is left out."""


def tick_expiry(interval: float) -> float:
    """Seconds after which a tick that no worker took is stale: the next one is near, or there already."""
    return max(interval - 10.0, interval / 2.0)
