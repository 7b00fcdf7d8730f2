"""Decides what each outcome is about: its mail, a group of mails, or the relay.

An outcome costs its mail an attempt only if it is about that mail. An outcome about the relay costs no attempt.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.application.sending.in_flight import log_fields
from mailbatch.application.sending.relay_health.faults import deferred, outage_of
from mailbatch.domain.circuit import Outage
from mailbatch.domain.outcome import ContentFault, Kind, RelayFault, Replied
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.reply_kinds import Concern, kind_of, of_the_relay
from mailbatch.domain.reservation import Status
from mailbatch.domain.settlement import Tally

if TYPE_CHECKING:
    from mailbatch.application.ports.system import Clock
    from mailbatch.application.sending.in_flight import InFlight, InFlightMail
    from mailbatch.application.sending.put_off_mails import PutOffMails
    from mailbatch.application.sending.relay_health.complaints import Complaints
    from mailbatch.application.sending.relay_health.faults import Faults
    from mailbatch.application.sending.relay_health.health import RelayHealth
    from mailbatch.application.sending.relay_health.own_verdict import OwnVerdict
    from mailbatch.application.sending.relay_health.permanent_refusals import PermanentRefusals
    from mailbatch.application.sending.relay_health.throttling import Throttling
    from mailbatch.domain.claimed import Without
    from mailbatch.domain.outcome import Outcome, Reply

log = logging.getLogger(__name__)

_OF_OUR_ACCOUNT = frozenset({Concern.QUOTA, Concern.ACCOUNT})


@dataclass(slots=True, kw_only=True)
class Judge:
    """Judges the outcomes of one lane.

    ``has_returned``: mails were put back in this pass that may go in another pass of the same run. ``has_reply``: the
    relay replied to a mail of this pass.
    """

    clock: Clock
    in_flight: InFlight
    health: RelayHealth
    own: OwnVerdict
    throttling: Throttling
    complaints: Complaints
    refusals: PermanentRefusals
    faults: Faults
    put_off: PutOffMails
    has_returned: bool = field(default=False, init=False)
    has_reply: bool = field(default=False, init=False)

    @property
    def waiting(self) -> int:
        """How many mails wait until it is known what their replies are about."""
        return len(self.complaints.waiting) + self.refusals.waiting

    @property
    def without(self) -> Without | None:
        """The groups whose mails are put back in this run; None if there are none."""
        return self.refusals.without

    def begin_pass(self) -> None:
        """A pass through the backlog begins."""
        self.has_returned = self.has_reply = False
        self.faults.begin_pass()

    def take(self, outcome: Outcome) -> None:
        """Judge an outcome. Its settlement is decided now, or waits for other outcomes."""
        mail = self.in_flight.mails[outcome.claim]
        mail.on_wire = False
        match outcome:
            case Replied():
                self.has_reply = True
                self._take_reply(outcome, mail)
            case RelayFault():
                self._take_fault(outcome, mail)
            case ContentFault(claim, _, reason):
                self.in_flight.decide(self.put_off.settle(claim, [reason], mail.earlier or {}))
            case _:
                self.in_flight.decide(self.own.settle(outcome, mail))
        self.refusals.settle_overdue()

    def end_pass(self) -> None:
        """Judge what waits, because every mail that was handed over has its outcome."""
        self.faults.end_pass(has_reply=self.has_reply)
        self.complaints.end_pass()

    def end(self) -> None:
        """Settle all mails that wait, because no outcome follows for now.

        Refusals count as meant for their mails. Complaints count as meant for the relay: their mails are put back.
        """
        self.refusals.settle_all()
        self.complaints.put_back_all()

    # --- replies -------------------------------------------------------------------------------------------------

    def _take_reply(self, replied: Replied, mail: InFlightMail) -> None:
        settlement = self.own.settle(replied, mail)
        if settlement.status is Status.SENT:
            self._accept(replied, mail)
            self.in_flight.decide(settlement)
        elif (about_relay := of_the_relay(replied)) is not None:
            reply, kind = about_relay
            self._take_reply_about_relay(replied, mail, reply, kind.concern)
        elif all(v.kind is Kind.REJECTED for v in replied.verdicts.values()):
            self.refusals.take(replied, mail, settlement)
        else:
            self.in_flight.decide(settlement)
            self.has_returned = self.has_returned or settlement.tally is Tally.RELEASED
            self._take_mixed(replied, mail)

    def _accept(self, replied: Replied, mail: InFlightMail) -> None:
        """Note that the relay works: waiting replies to mails that went out before were meant for those mails."""
        self.health.accepted(mail.index)
        self.throttling.pace.accepted(self.clock.monotonic())
        if self.complaints.waiting:
            self.complaints.accepted(mail.index)
        self.refusals.accepted(mail, replied.claim.reservation_id)

    def _take_reply_about_relay(self, replied: Replied, mail: InFlightMail, reply: Reply, concern: Concern) -> None:
        if concern is Concern.RATE:
            self.has_returned = True
            self.in_flight.decide(self.throttling.settle(replied, mail, reply))
        else:
            self.complaints.take(replied, mail, reply)

    def _take_mixed(self, replied: Replied, mail: InFlightMail) -> None:
        """Any other reply ends the failures in a row, unless the relay fell silent."""
        if (silence := replied.silence) is not None:
            if self.health.failures.doubt() or self.health.probed is not None:
                self.health.failed(Outage(relay=replied.relay, reason=one_line(str(silence))))
        elif any(v.kind is Kind.ACCEPTED for v in replied.verdicts.values()):
            self._accept(replied, mail)
            self.throttling.slow_down_for(replied, mail)
        else:
            self.health.answered()

    # --- faults --------------------------------------------------------------------------------------------------

    def _take_fault(self, fault: RelayFault, mail: InFlightMail) -> None:
        """A fault of the relay costs its mail nothing, until the mail itself looks like the cause."""
        log.info("given back: %s", public(fault.reason), extra=log_fields(fault.claim))
        if fault.in_dialogue:
            self.health.lets_mail_in = True  # it answered this mail's MAIL
        if fault.reply is None or not self._take_fault_with_reply(fault, mail, fault.reply):
            self.has_returned = True
            self.in_flight.decide(self.own.settle(self.faults.take(fault), mail))

    def _take_fault_with_reply(self, fault: RelayFault, mail: InFlightMail, reply: Reply) -> bool:
        """Judge a fault whose reply says "too fast" or "you may not send". Return False if it says neither."""
        concern = kind_of(reply).concern
        if concern is Concern.RATE or (concern in _OF_OUR_ACCOUNT and fault.in_dialogue):
            self._take_reply_about_relay(deferred(fault, reply), mail, reply, concern)
        elif concern is Concern.QUOTA:
            self.health.failed(outage_of(fault))
            self.in_flight.decide(self.own.settle(fault, mail))
        else:
            return False
        return True
