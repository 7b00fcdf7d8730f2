"""How many may go in a period, by the generic cell rate algorithm (GCRA): evenly, after a burst of one second.

The state of a limit is one number for each rate: its theoretical arrival time, in seconds. It says when everything
that was granted would have arrived if it had come evenly. The script in Redis does the same; this is its oracle.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

_PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"\s*(\d{1,12})\s*/\s*(\d{1,6})?\s*([smhd])\s*")


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` in ``period`` seconds."""

    count: int
    period: float

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``14/s``, ``30/m``, ``20/10s`` or ``50000/d``. Raises ``ValueError`` with what is allowed."""
        found = _RATE.fullmatch(text)
        if not found or not int(found[1]) or not int(found[2] or 1):
            raise ValueError(f"must be a rate such as '14/s', '30/m', '500/h' or '50000/d' (got {text!r})")
        return cls(int(found[1]), int(found[2] or 1) * _PERIODS[found[3]])

    @property
    def spacing(self) -> float:
        """Seconds between two that go evenly."""
        return self.period / self.count

    @property
    def burst(self) -> int:
        """How many may go at once: those of one second, at least 1."""
        return max(1, math.floor(self.count / self.period))


@dataclass(frozen=True, slots=True)
class Grant:
    """``count`` may go now. ``wait``: seconds until the next may, 0 if all that were wanted may."""

    count: int
    wait: float
    arrivals: tuple[float, ...]


def grant(rates: Sequence[Rate], arrivals: Sequence[float], now: float, wanted: int) -> Grant:
    """Grant up to ``wanted`` under all of ``rates``. ``arrivals``: the state of each, 0 if it has none yet."""
    begun = [max(arrival, now) for arrival in arrivals]
    free = [
        math.floor((now + rate.burst * rate.spacing - arrival) / rate.spacing + 1e-9)
        for rate, arrival in zip(rates, begun, strict=True)
    ]
    count = max(0, min(wanted, *free))
    after = tuple(arrival + count * rate.spacing for rate, arrival in zip(rates, begun, strict=True))
    if count == wanted:
        return Grant(count, 0.0, after)
    waits = [
        arrival + rate.spacing - rate.burst * rate.spacing - now for rate, arrival in zip(rates, after, strict=True)
    ]
    return Grant(count, max(0.0, *waits), after)
