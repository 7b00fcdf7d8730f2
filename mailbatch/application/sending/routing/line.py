"""When the mails that a relay cannot take now come due again: one behind the other, at the rate of the relay."""

from __future__ import annotations

_LOOK_BACK = 2.0
"""Seconds over which the rate of the relay is measured."""
_FASTER = 1.25
"""The factor by which mails come due faster than the relay took them, so that it is never without work."""
_SLOWEST = 1.0
"""Mails a second."""


class Line:
    """The line before one relay. Times are seconds on the lane's clock. ``rate``: mails a second until it is measured.

    A mail is written once for each time that it stands in line. Those that come due and find the relay still busy go to
    the end; by the rate that should be a fifth of them, however long the line is.
    """

    def __init__(self, rate: float) -> None:
        self.ends_at = 0.0
        """When the last mail of the line comes due."""
        self._rate = rate
        self._answered = 0
        self._since: float | None = None

    def wait(self, now: float, not_before: float = 0.0) -> float:
        """Put a mail at the end of the line; return the seconds until it comes due, after ``not_before``."""
        self.ends_at = max(self.ends_at, not_before, now + _LOOK_BACK) + 1.0 / self._rate
        return self.ends_at - now

    def answered(self, now: float) -> None:
        """Note that the relay answered a mail."""
        self._answered += 1
        if self._since is None:
            self._since, self._answered = now, 0
        elif (seconds := now - self._since) >= _LOOK_BACK:
            self._rate = max(_SLOWEST, self._answered / seconds * _FASTER)
            self._since, self._answered = now, 0
