"""How many connections a lane has to a relay: tries more of them, and keeps them if mails go faster then. ADR 23."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

LEAST_IDLE = 0.1
"""More connections are tried only if the lane waits for the relay for this share of its time. Else it is the limit."""
_FIRST_STEP, _LATER_STEP = 1.5, 1.25
"""A trial has so many times the connections. After the first trial that failed the steps are smaller."""
_LEAST_GAIN = 0.08
_FIRST_PAUSE, _LONGEST_PAUSE = 15.0, 600.0
"""Seconds until the next trial after one that failed. They double each time."""
_BETWEEN_LOSSES = 1.0
"""Seconds in which lost connections count as one loss: a relay that restarts drops all of them."""
FIRST = 4
"""Connections at the start, while nothing is known of the relay. Losses without a reason do not go below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionNumber:
    """The ``number`` of connections now, at least 1 and at most ``most``, and what was tried before.

    Rates are in mails a second, times in seconds of one clock. ``tried_from``: the number before the trial that is
    going on, with its ``rate_before``; 0 if none is going on.
    """

    number: int
    most: int
    tried_from: int = 0
    rate_before: float = 0.0
    step: float = _FIRST_STEP
    pause: float = _FIRST_PAUSE
    next_trial: float = 0.0
    lowered_at: float = -math.inf

    @property
    def proven(self) -> int:
        """The number to remember: without a trial that may still fail."""
        return self.tried_from or self.number

    def measured(self, rate: float, idle: float, at: float) -> ConnectionNumber:
        """Return the number after a measurement with this number.

        ``rate``: mails a second that the relay answered. ``idle``: the share of the time in which the lane did nothing
        but wait for the relay.
        """
        if self.tried_from and rate < self.rate_before * (1.0 + self._least_gain()):
            return self._lowered(self.tried_from, at)
        kept = replace(self, tried_from=0, pause=_FIRST_PAUSE) if self.tried_from else self
        if idle < LEAST_IDLE or self.number >= self.most or at < self.next_trial:
            return kept
        more = min(self.most, math.ceil(self.number * self.step))
        return replace(kept, number=more, tried_from=self.number, rate_before=rate)

    def refused(self, working: int, at: float) -> ConnectionNumber:
        """Return the number after the relay took no further connection, while ``working`` others work or are opened."""
        return self._lowered(max(1, min(self.number, working)), at)

    def lost(self, at: float) -> ConnectionNumber:
        """Return the number after a connection was not opened, or broke, and the relay did not say why."""
        if at < self.lowered_at + _BETWEEN_LOSSES:
            return self
        return self._lowered(max(min(self.number, FIRST), self.number - 1), at)

    def _least_gain(self) -> float:
        """Return by how much the rate must rise: by a quarter of what it does if only the relay is waited for."""
        return max(_LEAST_GAIN, (self.number / self.tried_from - 1.0) / 4.0)

    def _lowered(self, number: int, at: float) -> ConnectionNumber:
        return replace(
            self,
            number=number,
            tried_from=0,
            step=_LATER_STEP,
            pause=min(self.pause * 2.0, _LONGEST_PAUSE),
            next_trial=at + self.pause,
            lowered_at=at,
        )
