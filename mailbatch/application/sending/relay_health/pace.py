"""Limits how fast a lane hands mails over. There is no limit until the relay says "too fast".

Then the rate falls to what the relay accepted in the last second, and at least to half of the previous rate. From there
it rises again.
"""

from __future__ import annotations

import math

CLIMB = 1.1
"""The factor by which the working rate rises each second."""
UNLIMITED = 5000.0
"""Mails per second. Above this rate there is no limit any more."""
PATIENCE = 60.0
"""Seconds for which a relay may say "too fast" and accept nothing, before it is left alone for a while."""
LONGEST_NAP = 0.25
"""Seconds of one pause of the stream. After each pause the lane checks whether it must stop."""
LONGEST_SLEEP = 120.0
"""The longest wait, in seconds, that a run grants a relay. If the relay asks for more, it is left alone instead."""
_SECOND = 1.0
_CATCH_UP = 0.1
"""Seconds of lost time that a late stream may make up for."""


class Pace:
    """The pace of one lane. Times are seconds on its clock. Item indexes rise in the order in which mails go out.

    ``most``: how many mails a second the relay takes by its settings. Something else keeps the lane to it.
    """

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
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
        """Return whether there is a rate to keep to."""
        return self.rate < math.inf

    def share(self, most: int) -> int:
        """Return how many mails to claim at once: those of one second, at least one and at most ``most``."""
        rate = min(self.rate, self._most)
        return most if rate >= most else max(1, int(rate))

    def accepted(self, now: float) -> None:
        """Note that the relay accepted a mail."""
        if now - self._second_began >= _SECOND:
            self._turn_second(now)
        self._accepted += 1
        self._gives_up_at = math.inf

    def throttled(self, index: int, handed_to: int, now: float, asked: float | None = None) -> bool:
        """Note that the relay said "too fast" to the mail with the item index ``index``.

        ``handed_to``: the item index of the mail that was handed over last before this reply. ``asked``: seconds for
        which the relay wants no mail. Return whether to leave the relay alone: ``asked`` is more than
        ``LONGEST_SLEEP``, or the relay has accepted nothing for ``PATIENCE`` seconds.
        """
        pause = asked or 0.0
        if pause > LONGEST_SLEEP:
            return True
        if self._gives_up_at == math.inf:
            self._gives_up_at = now + PATIENCE + pause
        self._next_at = max(self._next_at, now + pause)
        if index > self._judged_to and now - self._cut_at >= _SECOND:  # one burst cuts the rate once
            self._judged_to, self._cut_at = handed_to, now
            self._cut(now)
        return now >= self._gives_up_at

    def wait(self, now: float) -> float:
        """Return the seconds until the next mail may go. The rate climbs meanwhile."""
        if not self.limited:
            return 0.0
        if now > self._climbed_at:
            self.rate *= CLIMB ** (now - self._climbed_at)
            self._climbed_at = now
        if self.rate > UNLIMITED:
            self.rate = math.inf
        return max(0.0, self._next_at - now)

    def handed(self, now: float) -> None:
        """Note that a mail goes out now."""
        self._next_at = max(self._next_at, now - _CATCH_UP) + 1.0 / self.rate

    def _cut(self, now: float) -> None:
        seen, half = self._last_second(now), self.rate / 2
        self.rate = min(seen, half) if seen else min(half, 1.0)
        self.cuts += 1
        # Mails that were accepted in this second count against the relay's limit until the second is over.
        self._next_at = max(self._next_at, now + 1.0 / self.rate, self._second_began + _SECOND)
        self._climbed_at = self._next_at

    def _last_second(self, now: float) -> float:
        """Return the mails accepted in the second before ``now``: of this second, and a share of the one before."""
        elapsed = now - self._second_began
        if elapsed >= _SECOND:
            self._turn_second(now)
            elapsed = 0.0
        return self._accepted + self._accepted_before * (1.0 - elapsed)

    def _turn_second(self, now: float) -> None:
        self._accepted_before = self._accepted if now - self._second_began < 2 * _SECOND else 0.0
        self._accepted, self._second_began = 0.0, now
