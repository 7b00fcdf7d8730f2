"""Slows a lane down when its relay says "too fast"."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from mailbatch.application.ports.sending import Nap
from mailbatch.application.sending.relay_health.pace import LONGEST_NAP, Pace
from mailbatch.domain.circuit import Outage
from mailbatch.domain.outcome import Kind
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.reply_kinds import Concern, hinted, kind_of
from mailbatch.domain.settlement import put_back

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from mailbatch.application.ports.system import Clock
    from mailbatch.application.sending.in_flight import InFlightMail
    from mailbatch.application.sending.lane_stop import LaneStop
    from mailbatch.application.sending.relay_health.health import RelayHealth
    from mailbatch.application.sending.relay_health.own_verdict import OwnVerdict
    from mailbatch.domain.outcome import Replied, Reply
    from mailbatch.domain.settlement import Settlement

log = logging.getLogger(__name__)

THROTTLES_OF_ONE_MAIL = 5
"""A mail that gets "too fast" this often in one run is deferred; it costs an attempt if others were accepted since."""


class Throttling:
    """Keeps the lane's pace, and decides when a mail that came too fast goes again.

    ``most``: how many mails may go in a second by the rate of the relay.
    """

    def __init__(
        self, clock: Clock, stop: LaneStop, health: RelayHealth, own: OwnVerdict, most: float = math.inf
    ) -> None:
        self.pace = Pace(most)
        self._clock = clock
        self._stop = stop
        self._health = health
        self._own = own
        self._heard: dict[UUID, list[int]] = {}
        """For each mail its item index each time that the reply was "too fast"."""

    def naps(self) -> Iterator[Nap]:
        """Yield naps until the pace allows another mail. They are short, so that a stop is seen soon."""
        while (wait := self.pace.wait(self._clock.monotonic())) > 0 and not self._stop.is_set():
            yield Nap(min(wait, LONGEST_NAP))

    def handed_over(self, index: int) -> None:
        """Note that the mail with this item index goes to the transport now."""
        self._health.handed_to = index
        if self.pace.limited:
            self.pace.handed(self._clock.monotonic())

    def settle(self, replied: Replied, mail: InFlightMail, reply: Reply) -> Settlement:
        """Settle a mail that went too fast: it goes again in this run, at a lower rate, and this costs no attempt.

        After ``THROTTLES_OF_ONE_MAIL`` times it is deferred.
        """
        reservation_id = replied.claim.reservation_id
        if self._slow_down(mail, reply) or self._health.probed is not None:
            self._health.refused.add(reservation_id)
            self._health.failed(Outage.of_reply(replied.relay, reply))
        heard = self._heard.setdefault(reservation_id, [])
        heard.append(mail.index)
        settlement = put_back(replied.claim, replied.relay, reply)
        if len(heard) >= THROTTLES_OF_ONE_MAIL:
            del self._heard[reservation_id]
            if heard[0] < self._health.accepted_to:
                return self._own.defer(replied, mail)
            return replace(settlement, retry_in=self._own.retry.backoff)
        return replace(settlement, retry_in=0.0) if len(heard) > 1 else settlement  # 0: behind the others that are due

    def slow_down_for(self, replied: Replied, mail: InFlightMail) -> None:
        """Slow down if the relay accepted the mail for some recipients, and said "too fast" for others."""
        for verdict in replied.verdicts.values():
            if verdict.kind is Kind.DEFERRED and kind_of(verdict.reply).concern is Concern.RATE:
                self._slow_down(mail, verdict.reply)
                return

    def _slow_down(self, mail: InFlightMail, reply: Reply) -> bool:
        """Lower the rate. Return whether to leave the relay alone, see ``Pace.throttled``."""
        cuts = self.pace.cuts
        gives_up = self.pace.throttled(mail.index, self._health.handed_to, self._clock.monotonic(), hinted(reply))
        if self.pace.cuts > cuts:
            log.info("the relay says too fast; now %.2g mails a second: %s", self.pace.rate, public(str(reply)))
        return gives_up
