"""How many may go in a period, by the generic cell rate algorithm (GCRA): evenly, after a burst of one second.

Times are whole microseconds, so that the script in Redis comes to the same numbers. This module is its oracle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND = 1_000_000
DAY = 86_400 * SECOND
_PERIODS = {"s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": DAY}
_RATE = re.compile(r"\s*(\d{1,12})\s*/\s*(\d{1,6})?\s*([smhd])\s*")
IDLE = 2 * SECOND
"""A limit that was not used for so long has nobody who waits for it."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` in ``period`` microseconds."""

    count: int
    period: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``14/s``, ``30/m``, ``20/10s`` or ``50000/d``. Raises ``ValueError`` with what is allowed."""
        found = _RATE.fullmatch(text)
        if not found or not int(found[1]) or not int(found[2] or 1):
            raise ValueError(f"must be a rate such as '14/s', '30/m', '500/h' or '50000/d' (got {text!r})")
        return cls(int(found[1]), int(found[2] or 1) * _PERIODS[found[3]])

    @property
    def spacing(self) -> int:
        """Microseconds between two that go evenly, rounded up."""
        return -(-self.period // self.count)

    @property
    def burst(self) -> int:
        """How many may go at once: those of one second, at least 1."""
        return max(1, self.count * SECOND // self.period)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who wants to go under one limit, in their order.

    ``weights``: for how many each of them counts. The first ``waited`` were told to wait before. Without ``queue`` no
    places are kept for those who may not go.
    """

    limit: str
    rates: tuple[Rate, ...]
    weights: tuple[int, ...]
    waited: int = 0
    queue: bool = True


@dataclass(frozen=True, slots=True)
class Used:
    """The state of a limit.

    ``arrivals``: for each rate, when everything that was granted would have gone if it had gone evenly (the theoretical
    arrival time). ``line``: the same of the slowest rate, as if all who were told to wait had gone too.
    """

    arrivals: tuple[int, ...]
    line: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """The first ``count`` of those who asked may go now. ``places``: microseconds until each of the others may."""

    count: int
    places: tuple[int, ...] = ()


def grant(asked: Asked, used: Used, now: int) -> tuple[Grant, Used]:
    """Let as many go as all rates allow, in order.

    Who waited before goes first; the others go only if nobody waits. Who may not go gets a place behind all who wait.
    Without ``queue`` the only place is that of the first who may not go, and it is not kept.
    """
    rates, weights = asked.rates, asked.weights
    line, arrivals = used.line, list(used.arrivals)
    if all(arrival <= now - _idle(rate) for rate, arrival in zip(rates, arrivals, strict=True)):
        line = min(line, now)
    arrivals = [max(arrival, now) for arrival in arrivals]
    slowest = max(range(len(rates)), key=lambda n: rates[n].spacing)
    count, wait = 0, 0
    for weight in weights:
        wait = max(_due(rate, arrival, weight) for rate, arrival in zip(rates, arrivals, strict=True)) - now
        if wait > 0 or (count >= asked.waited and line > arrivals[slowest]):
            break
        arrivals = [arrival + weight * rate.spacing for rate, arrival in zip(rates, arrivals, strict=True)]
        count += 1
    kept = Used(tuple(arrivals), line)
    if count == len(weights):
        return Grant(count), kept
    wait = max(0, wait)
    if not asked.queue:
        return Grant(count, (wait,)), kept
    line, places = max(line, arrivals[slowest]), []
    for weight in weights[count:]:
        places.append(max(wait, _due(rates[slowest], line, weight) - now))
        line += weight * rates[slowest].spacing
    return Grant(count, tuple(places)), Used(tuple(arrivals), line)


def _due(rate: Rate, arrival: int, weight: int) -> int:
    """Return when one of ``weight`` may go. One that counts for more than the burst goes when nobody else does."""
    return arrival + (min(weight, rate.burst) - rate.burst) * rate.spacing


def given_back(rates: Sequence[Rate], used: Used, weight: int) -> Used:
    """Return the state as if ``weight`` less had been granted."""
    back = zip(rates, used.arrivals, strict=True)
    return Used(tuple(arrival - weight * rate.spacing for rate, arrival in back), used.line)


def unused(rates: Sequence[Rate]) -> Used:
    """Return the state of a limit under which nobody has gone yet."""
    return Used((0,) * len(rates))


def _idle(rate: Rate) -> int:
    return max(IDLE, 2 * rate.spacing)
