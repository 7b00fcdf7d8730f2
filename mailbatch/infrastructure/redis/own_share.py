"""What one process may send under shared limits while nobody counts for all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mailbatch.domain.rate import SECOND, Asked, Grant, Rate, Used, grant, unused

if TYPE_CHECKING:
    from collections.abc import Callable

_OVER = 10 * SECOND
"""Microseconds over which the share is measured."""


@dataclass(slots=True)
class _Share:
    """``granted`` since ``begun``; ``before``: how fast it was granted in the time before that."""

    begun: int
    granted: int = 0
    before: Rate | None = None

    def note(self, granted: int, now: int) -> None:
        self.granted += granted
        if now - self.begun >= _OVER:
            self.before = self.rate(now)
            self.begun, self.granted = now, 0

    def rate(self, now: int) -> Rate | None:
        """Return the rate of this process; None if nothing was granted."""
        return Rate(self.granted, max(now - self.begun, SECOND)) if self.granted else None


class OwnShare:
    """Remembers how much of each limit this process got. ``now`` returns seconds.

    ``is_shared``: somebody has counted for all. Until then each limit is this process's own.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.is_shared = False
        self._now = now
        self._shares: dict[str, _Share] = {}
        self._used: dict[str, Used] = {}

    def note(self, asked: Asked, granted: Grant) -> None:
        """Remember what was granted while somebody counted for all."""
        self.is_shared = True
        now = self._microseconds()
        share = self._shares.setdefault(asked.limit, _Share(now))
        share.note(sum(asked.weights[: granted.count]), now)
        self._used.pop(asked.limit, None)

    def grant(self, asked: Asked) -> Grant:
        """Grant what the share of this process allows."""
        now = self._microseconds()
        rates = self._rates(asked, now)
        if not rates:
            return Grant(0, (SECOND,) * (len(asked.weights) if asked.queue else 1))
        used = self._used.get(asked.limit) or unused(rates)
        granted, self._used[asked.limit] = grant(replace(asked, rates=rates), used, now)
        return granted

    def _rates(self, asked: Asked, now: int) -> tuple[Rate, ...]:
        if not self.is_shared:
            return asked.rates
        share = self._shares.get(asked.limit)
        if share is None:
            return ()
        share.before = share.before or share.rate(now)
        return (share.before,) if share.before else ()

    def _microseconds(self) -> int:
        return int(self._now() * SECOND)
