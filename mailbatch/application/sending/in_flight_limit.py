"""Limits how many mails a lane holds to those of a short time, so that urgent mail waits behind few others."""

from __future__ import annotations

import math
from dataclasses import dataclass

HORIZON = 0.35
"""Seconds for which the mails that a lane holds may last, beyond what the relay takes for one."""
_CALM = 0.25
"""The share by which a lower rate counts: outcomes come in bursts."""


class InFlightLimit:
    """The limit follows the rate of the lane. Times are seconds on one clock.

    ``least``: mails that the connections need to be busy; a lane begins with them. ``group``: how many a claim takes. A
    lane with more connections has larger groups, and needs more mails in proportion. The limit is two groups at most: a
    relay that takes a group in half of ``HORIZON`` never meets it.
    """

    __slots__ = ("_at", "_latency", "_rate", "_settled", "_share", "limit")

    def __init__(self, least: int, group: int, now: float) -> None:
        self.limit = min(least, 2 * group)
        """How many mails may be held."""
        self._share = self.limit / group
        self._at = now
        self._settled = 0
        self._rate = 0.0
        self._latency = math.inf

    def update(self, settled: int, held: int, group: int, now: float) -> int:
        """Return the limit at ``now``. The lane has settled so many mails, of all that it ever claimed, and holds some.

        The rate is measured over half of the limit at least. By Little's law the mails held, divided by the rate, are
        the seconds that a mail takes. The least of them is what it takes with nothing before it: a relay that is far
        away, but fast, must have many mails in flight.
        """
        done, seconds = settled - self._settled, now - self._at
        if 2 * done < self.limit or seconds <= 0:
            return self.limit
        self._settled, self._at = settled, now
        rate = done / seconds
        self._rate = rate if rate > self._rate else self._rate + _CALM * (rate - self._rate)
        self._latency = min(self._latency, (held + done / 2) / rate)
        least = math.ceil(self._share * group)
        self.limit = max(least, min(2 * group, int(self._rate * (HORIZON + self._latency))))
        return self.limit


@dataclass(frozen=True, slots=True)
class Urgency:
    """Mail of at least ``priority`` is urgent. ``least_in_flight``: mails that a lane holds at least, if it can."""

    priority: int
    least_in_flight: int

    def limit(self, group: int, now: float) -> InFlightLimit:
        """Return a new limit for a lane whose claims take ``group`` mails."""
        return InFlightLimit(self.least_in_flight, group, now)
