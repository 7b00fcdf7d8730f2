"""When a mail that was put off is tried again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter: ``backoff`` and ``backoff_max`` in seconds."""

    max_attempts: int = 5
    backoff: float = 60.0
    backoff_max: float = 3600.0

    def exhausted(self, attempts: int) -> bool:
        """Whether a mail that has used ``attempts`` has none left."""
        return attempts >= self.max_attempts

    def delay(self, attempts: int, jitter: float) -> float:
        """Seconds to wait after the ``attempts``-th attempt; ``jitter`` in [0, 1) spreads it over 50–100 %.

        The spread keeps mails that were put off together from coming back together.
        """
        # The exponent is bounded before 2 ** n can leave the range of a float.
        full = min(self.backoff_max, self.backoff * 2.0 ** min(max(attempts - 1, 0), 64))
        return full * (0.5 + 0.5 * jitter)
