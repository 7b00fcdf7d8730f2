"""Holds back the mails to which the relay said that it takes no mail at all (quota, account, storage).

Later outcomes show whether that is true. If the relay accepts mails that were handed over later, the reply was meant
for its own mail. Otherwise it was meant for all mails, and the relay is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.circuit import Outage
from mailbatch.domain.settlement import put_back

if TYPE_CHECKING:
    from mailbatch.application.sending.in_flight import InFlight, InFlightMail
    from mailbatch.application.sending.lane_stop import LaneStop
    from mailbatch.application.sending.relay_health.health import RelayHealth
    from mailbatch.application.sending.relay_health.own_verdict import OwnVerdict
    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Replied, Reply
    from mailbatch.domain.settlement import Settlement

_PERMANENT = 500
"""Codes from here on are permanent refusals (RFC 5321 §4.2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """A mail that is held back. ``as_its_own``: its settlement if the reply is meant for this mail alone.

    ``index``: its item index. ``handed_to``: the item index of the mail that was handed over last before the reply.
    """

    claim: Claim
    relay: str
    reply: Reply
    as_its_own: Settlement
    index: int
    handed_to: int


class Complaints:
    """The waiting complaints of a lane, in the order in which they came."""

    def __init__(self, stop: LaneStop, in_flight: InFlight, health: RelayHealth, own: OwnVerdict) -> None:
        self.waiting: list[Complaint] = []
        self._stop = stop
        self._in_flight = in_flight
        self._health = health
        self._own = own

    def take(self, replied: Replied, mail: InFlightMail, reply: Reply) -> None:
        """Hold back a mail. Stop the lane if this mail is the probe, or if the relay failed often enough in a row.

        A permanent reply stops the lane too, unless the mail is a suspect. A mail that was the probe often enough is
        not held back but settled as its own fault; then the lane stops.
        """
        claim, health = replied.claim, self._health
        as_its_own = self._own.defer(replied, mail)
        if health.is_itself_the_reason(claim.reservation_id):
            self._in_flight.decide(as_its_own)
            health.charged.add(claim.reservation_id)
            health.failed(Outage.of_reply(replied.relay, reply))
            return
        self.waiting.append(
            Complaint(
                claim=claim,
                relay=replied.relay,
                reply=reply,
                as_its_own=as_its_own,
                index=mail.index,
                handed_to=health.handed_to,
            )
        )
        holds_at_once = reply.code >= _PERMANENT and not health.is_suspect(claim.reservation_id)
        if health.failures.fault() or holds_at_once or health.probed is not None:
            health.failed(Outage.of_reply(replied.relay, reply))

    def accepted(self, index: int) -> None:
        """Note that the relay accepted the mail with this item index.

        The complaints that came before this mail was handed over are settled as meant for their own mails.
        """
        own = [one for one in self.waiting if one.handed_to < index]
        if own:
            self.waiting = [one for one in self.waiting if one.handed_to >= index]
            for one in own:
                self._in_flight.decide(one.as_its_own)

    def end_pass(self) -> None:
        """Judge what waits, because every mail that was handed over has its outcome.

        If the relay accepted a mail with a higher item index than all that wait, each complaint was meant for its own
        mail. Otherwise the mails are put back, and the relay counts as failed unless a stop was requested.
        """
        if not self.waiting:
            return
        last = self.waiting[-1]
        if self._stop.outage is None and all(one.index < self._health.accepted_to for one in self.waiting):
            for one in self._take_all():
                self._in_flight.decide(one.as_its_own)
            return
        self._health.refused.update(one.claim.reservation_id for one in self.waiting)
        self.put_back_all()
        if not self._stop.is_requested():
            self._health.failed(Outage.of_reply(last.relay, last.reply))

    def put_back_all(self) -> None:
        """Put back the mails that wait; this costs them no attempt."""
        for one in self._take_all():
            self._in_flight.decide(put_back(one.claim, one.relay, one.reply))

    def _take_all(self) -> list[Complaint]:
        waiting, self.waiting = self.waiting, []
        return waiting
