"""When a deferred mail is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.reply_kinds import hinted, kind_of

if TYPE_CHECKING:
    from mailbatch.domain.outcome import Reply

SHORTEST_HINT = 1.0
"""Seconds. A relay that says "at once" is not tried again in the same instant."""
BELIEVED = 2
"""Attempts after which a relay that keeps saying "soon" is not believed. Then the plain back-off counts again."""
LATER_BY = 0.1
"""The relay names the same time for many mails. They are spread over this share of it, behind it."""


ALONE_AFTER = 2
"""If so many senders in a row died while they held a mail, it is sent alone, because it may be the cause."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter: ``backoff`` and ``backoff_max`` in seconds."""

    max_attempts: int = 5
    backoff: float = 60.0
    backoff_max: float = 3600.0

    def exhausted(self, attempts: int) -> bool:
        """Return whether a mail that has used ``attempts`` has none left."""
        return attempts >= self.max_attempts

    @property
    def deaths(self) -> int:
        """How many senders in a row may die with a mail that never was on the wire. The last holds it alone."""
        return max(self.max_attempts, ALONE_AFTER + 1)

    def delay(self, attempts: int, jitter: float) -> float:
        """Return the seconds to wait after the ``attempts``-th attempt.

        ``jitter`` in [0, 1) spreads them over 50–100 %, so that mails deferred together do not return together.
        """
        return self._full(attempts) * (0.5 + 0.5 * jitter)

    def delay_after(self, reply: Reply, attempts: int, jitter: float) -> float:
        """Return the seconds to wait after the relay's 4xx ``reply``.

        Its kind bounds the back-off (``domain.reply_kinds``). A time that the relay names replaces the back-off, but it
        is at least ``SHORTEST_HINT``. If it is shorter than the back-off, it counts for the first attempts only.
        ``backoff_max`` is the longest time in any case.
        """
        kind = kind_of(reply)
        least, most = kind.least * self.backoff, kind.most * self.backoff
        full = min(max(self._full(attempts), least), most, self.backoff_max)
        wait = full * (0.5 + 0.5 * jitter)
        if (hint := hinted(reply)) is not None:
            asked = max(hint, SHORTEST_HINT) * (1 + LATER_BY * jitter)
            wait = asked if attempts <= BELIEVED else max(wait, asked)
        return min(wait, self.backoff_max)

    def _full(self, attempts: int) -> float:
        # The exponent is bounded before 2 ** n can leave the range of a float.
        return min(self.backoff_max, self.backoff * 2.0 ** min(max(attempts - 1, 0), 64))
