"""How fast a lane hands mails over, once the relay has said that it was too fast; until then there is no limit.

The working rate becomes what was accepted in the last second, and at most half of what it was; then it climbs.
"""

from __future__ import annotations

import math

CLIMB = 1.1
"""The factor by which the working rate rises each second."""
UNLIMITED = 5000.0
"""Mails per second, beyond which the limit is forgotten."""
PATIENCE = 60.0
"""Seconds for which a relay may take nothing and say "too fast", before it is left alone for a while."""
LONGEST_NAP = 0.25
"""Seconds for which the stream pauses at once: a lane that is told to stop hears it after that."""
LONGEST_SLEEP = 120.0
"""Seconds that a relay may ask for within a run; for a longer time it is left alone instead."""
_SECOND = 1.0
_CATCH_UP = 0.1
"""Seconds of the rate that may be made up for after the stream was late."""


class Pace:
    """Times are seconds on the lane's clock; mails are known by their item index, which rises as they go out."""

    def __init__(self) -> None:
        self.rate = math.inf
        """Mails per second."""
        self.cuts = 0
        """How often the rate was cut."""
        self._next_at = 0.0
        self._climbed_at = 0.0
        self._cut_at = -math.inf
        self._judged_to = 0
        self._second_began = self._accepted = self._accepted_before = 0.0
        self._gives_up_at = math.inf

    @property
    def limited(self) -> bool:
        """Whether there is a rate to keep to."""
        return self.rate < math.inf

    def share(self, most: int) -> int:
        """How many mails to claim at once: what goes out in one second, at least one and at most ``most``."""
        return most if self.rate >= most else max(1, int(self.rate))

    def accepted(self, now: float) -> None:
        """The relay took a mail."""
        if now - self._second_began >= _SECOND:
            self._turn_second(now)
        self._accepted += 1
        self._gives_up_at = math.inf

    def throttled(self, index: int, handed_to: int, now: float, asked: float | None = None) -> bool:
        """The relay said "too fast" to the mail ``index``; mails up to ``handed_to`` have been handed over.

        ``asked``: seconds for which it wants nothing. Returns whether it is to be left alone: it takes nothing.
        """
        pause = asked or 0.0
        if pause > LONGEST_SLEEP:
            return True
        if self._gives_up_at == math.inf:
            self._gives_up_at = now + PATIENCE + pause
        self._next_at = max(self._next_at, now + pause)
        if index > self._judged_to and now - self._cut_at >= _SECOND:  # One burst is one offence.
            self._judged_to, self._cut_at = handed_to, now
            self._cut(now)
        return now >= self._gives_up_at

    def wait(self, now: float) -> float:
        """Seconds until the next mail may go; the rate climbs meanwhile."""
        if not self.limited:
            return 0.0
        if now > self._climbed_at:
            self.rate *= CLIMB ** (now - self._climbed_at)
            self._climbed_at = now
        if self.rate > UNLIMITED:
            self.rate = math.inf
        return max(0.0, self._next_at - now)

    def handed(self, now: float) -> None:
        """A mail goes out now."""
        self._next_at = max(self._next_at, now - _CATCH_UP) + 1.0 / self.rate

    def _cut(self, now: float) -> None:
        seen, half = self._last_second(now), self.rate / 2
        self.rate = min(seen, half) if seen else min(half, 1.0)
        self.cuts += 1
        # What was accepted within a second fills the relay's measure until that second is over.
        self._next_at = max(self._next_at, now + 1.0 / self.rate, self._second_began + _SECOND)
        self._climbed_at = self._next_at

    def _last_second(self, now: float) -> float:
        """Mails accepted in the second before ``now``: those of this one, and a share of those of the one before."""
        elapsed = now - self._second_began
        if elapsed >= _SECOND:
            self._turn_second(now)
            elapsed = 0.0
        return self._accepted + self._accepted_before * (1.0 - elapsed)

    def _turn_second(self, now: float) -> None:
        self._accepted_before = self._accepted if now - self._second_began < 2 * _SECOND else 0.0
        self._accepted, self._second_began = 0.0, now
