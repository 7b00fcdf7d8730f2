"""When a mail that was put off is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.reply_kinds import hinted, kind_of

if TYPE_CHECKING:
    from mailbatch.domain.outcome import Reply

SHORTEST_HINT = 1.0
"""Seconds: a relay that says "at once" is not asked again in the same instant."""
BELIEVED = 2
"""Attempts after which a relay that keeps saying "soon" is not believed: the plain back-off counts again."""
LATER_BY = 0.1
"""The share by which mails that were told the same time are spread behind it."""


ALONE_AFTER = 2
"""Senders that died in a row while they held a mail, after which it goes alone: it may be what they died of."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter: ``backoff`` and ``backoff_max`` in seconds."""

    max_attempts: int = 5
    backoff: float = 60.0
    backoff_max: float = 3600.0

    def exhausted(self, attempts: int) -> bool:
        """Whether a mail that has used ``attempts`` has none left."""
        return attempts >= self.max_attempts

    @property
    def deaths(self) -> int:
        """How many senders in a row may die with a mail that never was on the wire: at least one of them alone."""
        return max(self.max_attempts, ALONE_AFTER + 1)

    def delay(self, attempts: int, jitter: float) -> float:
        """Seconds to wait after the ``attempts``-th attempt; ``jitter`` in [0, 1) spreads it over 50–100 %.

        The spread keeps mails that were put off together from coming back together.
        """
        return self._full(attempts) * (0.5 + 0.5 * jitter)

    def delay_after(self, reply: Reply, attempts: int, jitter: float) -> float:
        """Seconds to wait after the relay's 4xx ``reply``: by its kind, and by what its own words ask for.

        A kind bounds the back-off (``domain.reply_kinds``). A time that the relay names takes its place, never less
        than ``SHORTEST_HINT``; a sooner one than the back-off counts for the first attempts only. Whatever anybody
        says, ``backoff_max`` is the end of it.
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
