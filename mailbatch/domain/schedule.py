"""When a batch runs without being called: every so many seconds, or by a cron line."""

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
    """Whether a beat ticks when it starts."""

    AUTO = "auto"
    """An interval ticks at each start, a cron line only if one of its ticks was missed."""
    YES = "yes"
    NO = "no"
    """Never; a missed tick is left out."""


_CRON_FIELDS = (5, 6)


def read_schedule(text: str, timezone: str) -> Schedule:
    """Return the schedule that ``text`` describes: seconds (``300``), or a cron line of 5 or 6 fields, seconds first.

    Whether a cron line ever fires is not checked here (``infrastructure/cron.py``).
    Raises ``ValueError`` with what is allowed.
    """
    fields = text.split()
    if len(fields) in _CRON_FIELDS:
        return Cron(text, timezone)
    if len(fields) != 1:
        raise ValueError("must be seconds, or a cron line of 5 fields (minute first) or 6 (second first)")
    try:
        seconds = float(fields[0])
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"must be seconds above 0, or a cron line of 5 or 6 fields (got {text!r})")
    return Every(seconds)


def tick_expiry(interval: float) -> float:
    """Return the seconds after which a tick that no worker took is stale, because the next one is near or has come."""
    return max(interval - 10.0, interval / 2.0)
