"""Judges 5xx replies of no known kind: they may be meant for their mail, its group, or all mails."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mailbatch.application.sending.relay_health.faults import deferred
from mailbatch.application.sending.relay_health.refusals import MeantFor, Refusals, group_of
from mailbatch.domain.circuit import Outage
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.reply_kinds import repeats
from mailbatch.domain.run import ItemError
from mailbatch.domain.settlement import put_back

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.system import Clock
    from mailbatch.application.sending.in_flight import InFlight, InFlightMail
    from mailbatch.application.sending.relay_health.health import RelayHealth
    from mailbatch.application.sending.relay_health.own_verdict import OwnVerdict
    from mailbatch.application.sending.relay_health.refusals import Group
    from mailbatch.domain.claimed import ClaimedMail, Without
    from mailbatch.domain.outcome import Replied, Reply
    from mailbatch.domain.settlement import Settlement

log = logging.getLogger(__name__)


class PermanentRefusals:
    """Settles refused mails, or lets them wait until it is known whom the refusal is meant for."""

    def __init__(self, clock: Clock, run: Run, in_flight: InFlight, health: RelayHealth, own: OwnVerdict) -> None:
        self._clock = clock
        self._run = run
        self._in_flight = in_flight
        self._health = health
        self._own = own
        self._refusals = Refusals()
        self._reported_groups: set[Group] = set()

    @property
    def waiting(self) -> int:
        """How many mails wait."""
        return len(self._refusals.waiting)

    @property
    def without(self) -> Without | None:
        """The groups whose mails are put back in this run; None if there are none."""
        return self._refusals.without

    def puts_back(self, mail: ClaimedMail) -> bool:
        """Return whether the mail belongs to a group that is put back."""
        found = self._refusals.found
        return bool(found) and group_of(mail.tag, mail.mail.template, mail.claim.reservation_id) in found

    def take(self, replied: Replied, mail: InFlightMail, settlement: Settlement) -> None:
        """Judge a refusal. ``settlement``: what becomes of the mail if the refusal is meant for it alone."""
        reply, reservation_id = next(iter(replied.verdicts.values())).reply, replied.claim.reservation_id
        probed = self._health.probed
        if probed is not None and repeats(reply, probed.reason or ""):
            self._take_repeated(replied, mail, reply)
            return
        self._health.answered()
        if (
            probed is not None
            or not self._refusals.may_concern_others(reply)
            or self._health.is_suspect(reservation_id)
        ):
            self._in_flight.decide(settlement)
            return
        group = group_of(mail.tag, mail.template, reservation_id)
        match self._refusals.add(settlement, reply, group, mail.index, self._clock.monotonic()):
            case MeantFor.THE_RELAY:
                self._put_back(self._refusals.take(reply), replied, reply)
                self._refuses_every_mail(replied, reply)
            case MeantFor.ITS_GROUP:
                self._put_back(self._refusals.take(reply, group), replied, reply)
                self._report_group(group, mail, reservation_id, reply)

    def accepted(self, mail: InFlightMail, reservation_id: UUID) -> None:
        """Note that the relay accepted a mail. Settle the refusals that this shows to be meant for their own mails."""
        if self._refusals.waiting:
            self._decide(self._refusals.accepted(group_of(mail.tag, mail.template, reservation_id), mail.index))

    def settle_overdue(self) -> None:
        """Settle refusals that have waited for long enough."""
        if self._refusals.waiting:
            self._decide(self._refusals.overdue(self._clock.monotonic()))

    def settle_all(self) -> None:
        """Settle all waiting refusals as meant for their own mails, because no outcome follows."""
        self._decide(self._refusals.take_all())

    def _decide(self, settlements: list[Settlement]) -> None:
        for settlement in settlements:
            self._in_flight.decide(settlement)

    def _take_repeated(self, replied: Replied, mail: InFlightMail, reply: Reply) -> None:
        """Judge a probe that was refused with the same text as the mails for which the relay was left alone."""
        reservation_id = replied.claim.reservation_id
        if self._health.is_itself_the_reason(reservation_id):
            self._health.charged.add(reservation_id)
            self._in_flight.decide(self._own.settle(deferred(replied, reply), mail))
        else:
            self._health.refused.add(reservation_id)
            self._in_flight.decide(put_back(replied.claim, replied.relay, reply))
        self._refuses_every_mail(replied, reply)

    def _refuses_every_mail(self, replied: Replied, reply: Reply) -> None:
        self._health.failed(Outage.of_reply(replied.relay, reply, why="it refuses every mail"))

    def _put_back(self, settlements: list[Settlement], replied: Replied, reply: Reply) -> None:
        for s in settlements:
            self._in_flight.decide(put_back(s.claim, replied.relay, reply))
            self._health.refused.add(s.claim.reservation_id)

    def _report_group(self, group: Group, mail: InFlightMail, reservation_id: UUID, reply: Reply) -> None:
        """Say once that the mails of a tag or template are put back in this run."""
        if not isinstance(group, tuple) or group in self._reported_groups:
            return
        self._reported_groups.add(group)
        text = f"mails of the {group[0]} {group[1]} are put back, because the relay refuses each of them: {reply}"
        log.warning("%s", public(text))
        self._run.item_error(ItemError(mail.index, reservation_id, (text,)))
