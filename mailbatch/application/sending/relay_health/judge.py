"""Decides for each outcome whom it speaks of: its mail, a group of mails, or the relay.

A mail pays with an attempt only for what speaks of itself. What speaks of the relay costs no mail an attempt.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from mailbatch.application.sending.in_flight import log_fields
from mailbatch.application.sending.relay_health.refusals import Finding, Refusals, group_of
from mailbatch.domain.circuit import Outage
from mailbatch.domain.lifecycle import Tally, put_back
from mailbatch.domain.outcome import Kind, RelayFault, Replied, Reply, Verdict
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.reply_kinds import Concern, hinted, kind_of, of_the_relay, repeats
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import ItemError

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.system import Clock
    from mailbatch.application.sending.in_flight import InFlight, InFlightMail
    from mailbatch.application.sending.relay_health.complaints import Complaints
    from mailbatch.application.sending.relay_health.health import RelayHealth
    from mailbatch.application.sending.relay_health.own_verdict import OwnVerdict
    from mailbatch.application.sending.relay_health.refusals import Group
    from mailbatch.application.sending.relay_health.throttling import Throttling
    from mailbatch.domain.claimed import ClaimedMail, Without
    from mailbatch.domain.lifecycle import Settlement
    from mailbatch.domain.outcome import Outcome

log = logging.getLogger(__name__)

FAULTS_OF_ONE_MAIL = 3
"""A mail in whose dialogue the relay broke this often in one run is put off: it may be what breaks it."""
_OF_OUR_ACCOUNT = frozenset({Concern.QUOTA, Concern.ACCOUNT})


class Judge:
    """Judges the outcomes of one lane."""

    def __init__(
        self,
        clock: Clock,
        run: Run,
        in_flight: InFlight,
        health: RelayHealth,
        own: OwnVerdict,
        throttling: Throttling,
        complaints: Complaints,
    ) -> None:
        self.has_returned = False
        """Mails were put back in this pass that may go in another pass of the same run."""
        self._clock = clock
        self._run = run
        self._in_flight = in_flight
        self._health = health
        self._own = own
        self._throttling = throttling
        self._complaints = complaints
        self._refusals = Refusals()
        self._reported_groups: set[Group] = set()
        self._faults: Counter[UUID] = Counter()
        self._has_reply = False
        self._fault: RelayFault | None = None
        self._all_in_dialogues = True

    @property
    def waiting(self) -> int:
        """How many mails wait until it is known whom their replies speak of."""
        return len(self._complaints.waiting) + len(self._refusals.waiting)

    @property
    def without(self) -> Without | None:
        """The groups of mails that are put back in this run."""
        return self._refusals.without

    def puts_back(self, mail: ClaimedMail) -> bool:
        """Return whether the mail belongs to a group that is put back."""
        found = self._refusals.found
        return bool(found) and group_of(mail.tag, mail.mail.template, mail.claim.reservation_id) in found

    # --- a pass --------------------------------------------------------------------------------------------------

    def begin_pass(self) -> None:
        """A pass through the backlog begins."""
        self.has_returned = self._has_reply = False
        self._fault, self._all_in_dialogues = None, True

    def take(self, outcome: Outcome) -> None:
        """Judge an outcome. Its settlement is decided now, or waits for other outcomes."""
        mail = self._in_flight.mails[outcome.claim]
        mail.on_wire = False
        match outcome:
            case Replied():
                self._has_reply = True
                self._take_reply(outcome, mail)
            case RelayFault():
                self._take_fault(outcome, mail)
            case _:
                self._in_flight.decide(self._own.settle(outcome, mail))
        self.settle_overdue()

    def settle_overdue(self) -> None:
        """Settle refusals that have waited for long enough."""
        if self._refusals.waiting:
            self._decide(self._refusals.overdue(self._clock.monotonic()))

    def end_pass(self) -> None:
        """Judge what waits, because every mail that was handed over has its outcome."""
        if self._fault is not None and not self._has_reply and not self._all_in_dialogues:
            self._health.failed(_outage(self._fault))
        self._complaints.end_pass()

    def end(self) -> None:
        """No outcome follows for now: refusals that wait are their mails' own, complaints are the relay's."""
        self._decide(self._refusals.take_all())
        self._complaints.put_back_all()

    def _decide(self, settlements: list[Settlement]) -> None:
        for settlement in settlements:
            self._in_flight.decide(settlement)

    # --- replies -------------------------------------------------------------------------------------------------

    def _take_reply(self, replied: Replied, mail: InFlightMail) -> None:
        settlement = self._own.settle(replied, mail)
        if settlement.status is Status.SENT:
            self._accept(replied, mail)
            self._in_flight.decide(settlement)
        elif (about_relay := of_the_relay(replied)) is not None:
            reply, kind = about_relay
            self._take_reply_about_relay(replied, mail, reply, kind.concern)
        elif all(v.kind is Kind.REJECTED for v in replied.verdicts.values()):
            self._take_refusal(replied, mail, settlement)
        else:
            self._in_flight.decide(settlement)
            self.has_returned = self.has_returned or settlement.tally is Tally.RELEASED
            self._take_mixed(replied, mail)

    def _accept(self, replied: Replied, mail: InFlightMail) -> None:
        """The relay works: what waited and went out before this mail was meant for its own mail."""
        health, index = self._health, mail.index
        health.answered()
        self._throttling.pace.accepted(self._clock.monotonic())
        health.accepted_to = max(health.accepted_to, index)
        if self._complaints.waiting:
            self._complaints.accepted(index)
        if self._refusals.waiting:
            group = group_of(mail.tag, mail.template, replied.claim.reservation_id)
            self._decide(self._refusals.accepted(group, index))

    def _take_reply_about_relay(self, replied: Replied, mail: InFlightMail, reply: Reply, concern: Concern) -> None:
        if concern is Concern.RATE:
            self.has_returned = True
            self._in_flight.decide(self._throttling.settle(replied, mail, reply))
        else:
            self._complaints.take(replied, mail, reply)

    def _take_mixed(self, replied: Replied, mail: InFlightMail) -> None:
        """Any other reply ends the failures in a row, unless the relay fell silent."""
        if (silence := replied.silence) is not None:
            if self._health.failures.doubt() or self._health.probed is not None:
                self._health.failed(Outage(relay=replied.relay, reason=one_line(str(silence))))
        elif any(v.kind is Kind.ACCEPTED for v in replied.verdicts.values()):
            self._accept(replied, mail)
            self._throttling.slow_down_for(replied, mail)
        else:
            self._health.answered()

    # --- permanent refusals --------------------------------------------------------------------------------------

    def _take_refusal(self, replied: Replied, mail: InFlightMail, settlement: Settlement) -> None:
        """Judge a 5xx of no known kind. It may wait, because other mails may be refused in the same words."""
        reply, reservation_id = next(iter(replied.verdicts.values())).reply, replied.claim.reservation_id
        probed = self._health.probed
        if probed is not None and repeats(reply, probed.reason or ""):
            self._take_repeated_refusal(replied, mail, reply)
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
            case Finding.OF_THE_RELAY:
                self._put_back(self._refusals.take(reply), replied, reply)
                self._refuses_every_mail(replied, reply)
            case Finding.OF_ITS_GROUP:
                self._put_back(self._refusals.take(reply, group), replied, reply)
                self._report_group(group, mail, reservation_id, reply)

    def _take_repeated_refusal(self, replied: Replied, mail: InFlightMail, reply: Reply) -> None:
        """The probe is refused in the words for which the relay was left alone."""
        reservation_id = replied.claim.reservation_id
        if self._health.is_itself_the_reason(reservation_id):
            self._health.charged.add(reservation_id)
            self._in_flight.decide(self._own.settle(_deferred(replied, reply), mail))
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

    # --- faults --------------------------------------------------------------------------------------------------

    def _take_fault(self, fault: RelayFault, mail: InFlightMail) -> None:
        """A fault of the relay costs its mail nothing, until the mail itself looks like the cause."""
        log.info("given back: %s", public(fault.reason), extra=log_fields(fault.claim))
        if fault.in_dialogue:
            self._health.lets_mail_in = True  # it answered this mail's MAIL
        if fault.reply is not None and self._take_fault_with_reply(fault, mail, fault.reply):
            return
        self.has_returned = True
        self._fault, self._all_in_dialogues = fault, self._all_in_dialogues and fault.in_dialogue
        reservation_id = fault.claim.reservation_id
        if self._health.failures.fault(reservation_id if fault.in_dialogue else None) or fault.hopeless:
            self._health.failed(_outage(fault))
        self._faults[reservation_id] += fault.in_dialogue
        outcome: Outcome = fault
        if fault.in_dialogue and self._faults[reservation_id] >= FAULTS_OF_ONE_MAIL:
            reply = Reply(421, f"the relay broke {FAULTS_OF_ONE_MAIL} times in this mail's dialogue: {fault.reason}")
            outcome = _deferred(fault, reply)
        self._in_flight.decide(self._own.settle(outcome, mail))

    def _take_fault_with_reply(self, fault: RelayFault, mail: InFlightMail, reply: Reply) -> bool:
        """Judge a fault whose reply says "too fast" or "you may not send". Return False if it says neither."""
        concern = kind_of(reply).concern
        if concern is Concern.RATE or (concern in _OF_OUR_ACCOUNT and fault.in_dialogue):
            self._take_reply_about_relay(_deferred(fault, reply), mail, reply, concern)
        elif concern is Concern.QUOTA:
            self._health.failed(_outage(fault))
            self._in_flight.decide(self._own.settle(fault, mail))
        else:
            return False
        return True


def _deferred(outcome: Replied | RelayFault, reply: Reply) -> Replied:
    """Return the same as if the relay had put the mail off with ``reply``."""
    return Replied(outcome.claim, outcome.relay, {"": Verdict(Kind.DEFERRED, reply)})


def _outage(fault: RelayFault) -> Outage:
    """The relay stays away, or turns us away before any mail."""
    reason = one_line(fault.reason)
    if fault.reply is None or not kind_of(fault.reply).holds:
        return Outage(relay=fault.relay, reason=reason, asked=hinted(Reply(0, fault.reason)))
    found = Outage.of_reply(fault.relay, fault.reply)
    return Outage(relay=fault.relay, reason=reason, concern=found.concern, asked=found.asked, least=found.least)
