"""Keeps one lane to the rates that the relays' file allows to a relay, over all lanes and hosts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, Self

from mailbatch.application.ports.sending import Nap
from mailbatch.application.sending.relay_health.pace import LONGEST_NAP
from mailbatch.domain.circuit import Outage
from mailbatch.domain.errors import StoreError
from mailbatch.domain.rate import DAY, SECOND, Asked
from mailbatch.domain.reply_kinds import Concern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date, datetime
    from zoneinfo import ZoneInfo

    from mailbatch.application.ports.gating import Quotas, RateLimits
    from mailbatch.application.sending.lane_stop import LaneStop
    from mailbatch.application.sending.relay_health.health import RelayHealth
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.rate import Rate

log = logging.getLogger(__name__)

PARTS_OF_A_SECOND = 4
"""A lane takes a quarter of what a second allows at once, so that the other lanes get their share."""
PARTS_OF_A_DAY = 100
_MOST_OF_A_DAY = 100
"""Mails of a day's quota that a lane takes at once, at most. What a killed lane has taken is lost."""
_LOOK_AGAIN = 0.05
"""Seconds after which a lane looks whether the relay has answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What a relay takes. ``rates``: those below a day. ``a_day``: how many in a day of ``timezone``; None: no limit.

    ``counts``: for how many a mail counts.
    """

    relay: str
    rates: tuple[Rate, ...] = ()
    a_day: int | None = None
    timezone: ZoneInfo
    counts: Callable[[ClaimedMail], int]

    @classmethod
    def of(cls, relay: str, rates: Sequence[Rate], timezone: ZoneInfo, counts: Callable[[ClaimedMail], int]) -> Self:
        """Return what ``rates`` allow. Of those of a day the strictest is the quota."""
        return cls(
            relay=relay,
            rates=tuple(rate for rate in rates if rate.period != DAY),
            a_day=min((rate.count for rate in rates if rate.period == DAY), default=None),
            timezone=timezone,
            counts=counts,
        )

    @property
    def at_once(self) -> int | None:
        """How many mails may go in a second; None if only days are limited."""
        return min((rate.burst for rate in self.rates), default=None)


class NewAllowance(Protocol):
    """Makes what keeps one lane to the rate of its relay."""

    def __call__(self, stop: LaneStop, health: RelayHealth, is_busy: Callable[[], bool]) -> Allowance:
        """Return a new one."""


@dataclass(slots=True, kw_only=True)
class Allowance:
    """What one lane has been granted and has not used.

    ``now`` returns the time by which days begin. ``is_busy``: whether the relay has mails that it has not answered.
    """

    allowed: Allowed
    rate_limits: RateLimits
    quotas: Quotas
    now: Callable[[], datetime]
    stop: LaneStop
    health: RelayHealth
    is_busy: Callable[[], bool]
    _granted: int = field(default=0, init=False)
    _day: date | None = field(default=None, init=False)
    _left_of_day: int = field(default=0, init=False)

    def naps(self, mail: ClaimedMail) -> Iterator[Nap]:
        """Yield naps until ``mail`` may go. If the day's quota is used up, the relay is left alone until the next day.

        Raises ``StoreError`` if the quota cannot be read.
        """
        weight = self.allowed.counts(mail)
        if self.allowed.a_day is not None and not self._takes_of_day(weight, self.allowed.a_day):
            yield from self._leave_relay(self.allowed.a_day)
            return
        if not self.allowed.rates:
            return
        while self._granted < weight:
            wait = self._ask()
            if self.stop.is_set():
                return
            if self._granted < weight and wait:
                yield Nap(min(wait, LONGEST_NAP))
        self._granted -= weight

    def end(self) -> None:
        """Give back what was not used. It is lost if the database fails."""
        if self._granted:
            self.rate_limits.give_back([self._asked(self._granted)])
            self._granted = 0
        if self._left_of_day and self._day is not None:
            try:
                self.quotas.give_back(self.allowed.relay, self._day, self._left_of_day)
            except StoreError as error:
                log.warning("%d mails of the day's quota are lost: %s", self._left_of_day, error)
            self._left_of_day = 0

    def _ask(self) -> float:
        """Take what may go now; return the seconds until more may."""
        (grant,) = self.rate_limits.take([self._asked()])
        self._granted += grant.count
        return grant.places[0] / SECOND if grant.places else 0.0

    def _asked(self, weight: int | None = None) -> Asked:
        at_once = max(1, (self.allowed.at_once or 1) // PARTS_OF_A_SECOND)
        weights = (1,) * at_once if weight is None else (weight,)
        return Asked(
            limit=f"relay:{self.allowed.relay}",
            rates=self.allowed.rates,
            weights=weights,
            waited=len(weights),
            queue=False,
        )

    # --- the quota of a day --------------------------------------------------------------------------------------

    def _takes_of_day(self, weight: int, most: int) -> bool:
        weight = min(weight, most)  # otherwise a mail to more recipients would keep all others waiting for ever
        now = self.now().astimezone(self.allowed.timezone)
        if now.date() != self._day:
            self._day, self._left_of_day = now.date(), 0
        if self._left_of_day < weight:
            wanted = max(weight, min(_MOST_OF_A_DAY, most // PARTS_OF_A_DAY))
            self._left_of_day += self.quotas.take(self.allowed.relay, now.date(), most, wanted)
        if self._left_of_day < weight:
            return False
        self._left_of_day -= weight
        return True

    def _leave_relay(self, most: int) -> Iterator[Nap]:
        """Leave the relay alone once it has answered the mails before: what it has not taken then is put back."""
        while self.is_busy() and not self.stop.is_set():
            yield Nap(_LOOK_AGAIN)
        if not self.stop.is_set():
            self.health.failed(self._used_up(most))

    def _used_up(self, most: int) -> Outage:
        now = self.now().astimezone(self.allowed.timezone)
        tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return Outage(
            relay=self.allowed.relay,
            reason=f"the {most} of this day are used up (rate in the relays' file)",
            concern=Concern.QUOTA,
            least=(tomorrow.timestamp() - now.timestamp()),
        )
