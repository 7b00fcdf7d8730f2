"""What an outcome says of its mail, and what it says of the relay: the relay's fault costs no mail an attempt."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from mailbatch.application.sending.complaints import Complaint, Complaints
from mailbatch.application.sending.in_flight import named
from mailbatch.application.sending.pace import Pace
from mailbatch.application.sending.refusals import Finding, Refusals, group_of
from mailbatch.application.sending.relay_failures import ConsecutiveFailures
from mailbatch.domain.circuit import PROBES_ALONE, Circuit, Outage
from mailbatch.domain.claimed import Without
from mailbatch.domain.lifecycle import Tally, put_back, settle
from mailbatch.domain.outcome import Kind, RelayFault, Replied, Reply, Verdict
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.reply_kinds import Concern, hinted, kind_of, of_the_relay, repeats
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import ItemError

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.ports.runs import Run
    from mailbatch.application.sending.in_flight import InFlight, InFlightMail
    from mailbatch.application.sending.refusals import Group
    from mailbatch.application.sending.send_due import SendDue
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.lifecycle import Settlement
    from mailbatch.domain.outcome import Outcome

log = logging.getLogger(__name__)

FAULTS_OF_ONE_MAIL = 3
"""A mail in whose dialogue the relay broke this often in one run is put off: it may be what breaks it."""
THROTTLES_OF_ONE_MAIL = 5
"""A mail that heard "too fast" this often in one run is put off; with an attempt if others went meanwhile."""
_OF_US = frozenset({Concern.QUOTA, Concern.ACCOUNT})
_FOR_GOOD = 500
"""Codes from here on are refusals for good (RFC 5321 §4.2.1)."""


class Judge:
    """Judges the outcomes of a lane; ``probed`` is the relay's circuit if one mail has to find out how it is.

    ``again``: mails were given back that may go in the same run.
    ``answered``: the relay let a mail in. ``without``: groups of mails that are put back in this run.
    """

    def __init__(self, use: SendDue, run: Run, held: InFlight, probed: Circuit | None) -> None:
        self._outage: Outage | None = None
        self.again = False
        self.answered = False
        self.without: Without | None = None
        self.handed_to = 0
        """The item index of the mail that was handed over last."""
        self.heard: set[UUID] = set()
        """Mails to which the relay said that it takes no mail at all."""
        self.paid: set[UUID] = set()
        """Those for which it counts as meant for them alone, because they were the probe so often."""
        self.pace = Pace()
        self._use = use
        self._run = run
        self._held = held
        self._probed = probed
        self._accepted_to = 0
        self._strikes = ConsecutiveFailures(
            use.clock, most=use.relay_faults, patience=use.relay_patience, most_doubts=2 * use.group_size
        )
        self._faults: Counter[UUID] = Counter()
        self._throttles: dict[UUID, list[int]] = {}
        self._complaints = Complaints()
        self._refusals = Refusals()
        self._known: Circuit | None = None
        self._any_answer = False
        self._fault: RelayFault | None = None
        self._is_in_dialogues = True

    @property
    def outage(self) -> Outage | None:
        """Why nothing more is to be sent: the first reason, because what follows may be its consequence."""
        return self._outage

    def _stop(self, outage: Outage) -> None:
        self._outage = self._outage or outage

    @property
    def waiting(self) -> int:
        """How many verdicts wait to be judged together with others."""
        return len(self._complaints.waiting) + len(self._refusals.waiting)

    def is_put_back(self, mail: ClaimedMail) -> bool:
        """Whether the mail belongs to a group that is put back."""
        found = self._refusals.found
        return bool(found) and group_of(mail.tag, mail.mail.template, mail.claim.reservation_id) in found

    def begin_pass(self) -> None:
        """The backlog is gone through anew."""
        self.again = self._any_answer = False
        self._fault, self._is_in_dialogues = None, True

    def take(self, outcome: Outcome) -> None:
        """Judge an outcome; its verdict is kept until it is written."""
        ticket = self._held.tickets[outcome.claim]
        ticket.on_wire = False
        match outcome:
            case Replied():
                self._any_answer = True
                self._hear(outcome, ticket)
            case RelayFault():
                self._blame(outcome, ticket)
            case _:
                self._held.answer(self._settled(outcome, ticket))
        self.look_at_the_time()

    def look_at_the_time(self) -> None:
        """Let refusals stand that have waited for long enough."""
        if self._refusals.waiting:
            for settlement in self._refusals.overdue(self._use.clock.monotonic()):
                self._held.answer(settlement)

    def end_of_pass(self) -> None:
        """All that was handed over is answered: judge the complaints that wait.

        If the last mails were accepted, those that complained stand alone among mails that went; else it is the relay.
        """
        if self._fault is not None and not self._any_answer and not self._is_in_dialogues:
            self._stop(_outage(self._fault))
        if not (complaints := self._complaints.take_all()):
            return
        alone = self.outage is None and all(one.index < self._accepted_to for one in complaints)
        for one in complaints:
            self._held.answer(one.as_its_own if alone else put_back(one.claim, one.relay, one.reply))
        if not alone:
            last = complaints[-1]
            self.heard.update(one.claim.reservation_id for one in complaints)
            if self._run.stop.reason() is None:
                self._stop(Outage.of_reply(last.relay, last.reply))

    def end(self) -> None:
        """Nothing more is to come for now: refusals that wait stand as they were, complaints are the relay's."""
        for settlement in self._refusals.take_all():
            self._held.answer(settlement)
        for one in self._complaints.take_all():
            self._held.answer(put_back(one.claim, one.relay, one.reply))

    # --- answers -------------------------------------------------------------------------------------------------

    def _settled(self, outcome: Outcome, ticket: InFlightMail) -> Settlement:
        """What becomes of a mail if the outcome is its own."""
        return settle(
            outcome,
            attempts=ticket.attempts,
            earlier=ticket.earlier or {},
            retry=self._use.retry,
            on_doubt=self._use.on_doubt,
            jitter=self._use.jitter(),
        )

    def _hear(self, answered: Replied, ticket: InFlightMail) -> None:
        settlement = self._settled(answered, ticket)
        if settlement.status is Status.SENT:
            self._accept(ticket, answered.claim.reservation_id)
            self._held.answer(settlement)
        elif (said := of_the_relay(answered)) is not None:
            reply, kind = said
            if kind.concern is Concern.RATE:
                self._throttle(answered, ticket, reply)
            else:
                self._complain(answered, ticket, reply)
        elif all(v.kind is Kind.REJECTED for v in answered.verdicts.values()):
            self._refuse(answered, ticket, settlement)
        else:
            self._held.answer(settlement)
            self.again = self.again or settlement.tally is Tally.RELEASED
            self._other(answered, ticket)

    def _other(self, answered: Replied, ticket: InFlightMail) -> None:
        """An answer ends the faults in a row, unless the relay fell silent."""
        if (silence := answered.silence) is not None:
            if self._strikes.doubt() or self._probed:
                self._stop(Outage(relay=answered.relay, reason=one_line(str(silence))))
        elif any(v.kind is Kind.ACCEPTED for v in answered.verdicts.values()):
            self._accept(ticket, answered.claim.reservation_id)
            self._slow_down(answered, ticket)
        else:
            self._is_well()

    def _is_well(self) -> None:
        self.answered = True
        self._strikes.answered()

    def _accept(self, ticket: InFlightMail, mail: UUID) -> None:
        self._is_well()
        self.pace.accepted(self._use.clock.monotonic())
        index = ticket.index
        self._accepted_to = max(self._accepted_to, index)
        if self._complaints.waiting:
            for one in self._complaints.accepted(index):
                self._held.answer(one.as_its_own)
        if self._refusals.waiting:
            for settlement in self._refusals.accepted(group_of(ticket.tag, ticket.template, mail), index):
                self._held.answer(settlement)

    # --- too fast ------------------------------------------------------------------------------------------------

    def _throttle(self, answered: Replied, ticket: InFlightMail, reply: Reply) -> None:
        """The mail goes again at once, and more slowly, without an attempt."""
        mail = answered.claim.reservation_id
        heard = self._throttles.setdefault(mail, [])
        heard.append(ticket.index)
        if self._cut(ticket, reply) or self._probed:
            self.heard.add(mail)
            self._stop(Outage.of_reply(answered.relay, reply))
        self.again = True
        settlement = put_back(answered.claim, answered.relay, reply)
        if len(heard) >= THROTTLES_OF_ONE_MAIL:
            alone = heard[0] < self._accepted_to
            settlement = (
                self._as_deferral(answered, ticket) if alone else replace(settlement, retry_in=self._use.retry.backoff)
            )
            del self._throttles[mail]
        elif len(heard) > 1:
            settlement = replace(settlement, retry_in=0.0)  # Behind the others that are due.
        self._held.answer(settlement)

    def _slow_down(self, answered: Replied, ticket: InFlightMail) -> None:
        for verdict in answered.verdicts.values():
            if verdict.kind is Kind.DEFERRED and kind_of(verdict.reply).concern is Concern.RATE:
                self._cut(ticket, verdict.reply)
                return

    def _cut(self, ticket: InFlightMail, reply: Reply) -> bool:
        cuts = self.pace.cuts
        given_up = self.pace.throttled(ticket.index, self.handed_to, self._use.clock.monotonic(), hinted(reply))
        if self.pace.cuts > cuts:
            log.info(
                "the relay says that this is too fast, now %.2g mails a second: %s", self.pace.rate, public(str(reply))
            )
        return given_up

    # --- it takes no mail at all ---------------------------------------------------------------------------------

    def _complain(self, answered: Replied, ticket: InFlightMail, reply: Reply) -> None:
        claim = answered.claim
        as_its_own = self._as_deferral(answered, ticket)
        if self._stands_alone(claim.reservation_id):
            self._held.answer(as_its_own)
            self.paid.add(claim.reservation_id)
            self._stop(Outage.of_reply(answered.relay, reply))
            return
        self._complaints.waiting.append(
            Complaint(
                claim=claim,
                relay=answered.relay,
                reply=reply,
                as_its_own=as_its_own,
                index=ticket.index,
                handed_to=self.handed_to,
            )
        )
        holds_at_once = reply.code >= _FOR_GOOD and not self._is_suspect(claim.reservation_id)
        if self._strikes.fault() or holds_at_once or self._probed:
            self._stop(Outage.of_reply(answered.relay, reply))

    def _stands_alone(self, mail: UUID) -> bool:
        """Whether it was the probe so often that it may be the reason itself."""
        return self._probed is not None and self._probed.suspects.get(mail, 0) + 1 >= PROBES_ALONE

    def _is_suspect(self, mail: UUID) -> bool:
        """Whether it has heard the same in an earlier run, and others were accepted since."""
        if self._known is None:
            guard = self._use.guard
            self._known = guard.look() if guard is not None else Circuit(relay="")
        return mail in self._known.suspects

    def _as_deferral(self, answered: Replied, ticket: InFlightMail) -> Settlement:
        """As for any 4xx: whoever refused for good may have meant the account, not this mail."""
        deferred = {
            to: Verdict(Kind.DEFERRED, v.reply) if v.kind is Kind.REJECTED and kind_of(v.reply).holds else v
            for to, v in answered.verdicts.items()
        }
        return self._settled(Replied(answered.claim, answered.relay, deferred), ticket)

    # --- refused for good ----------------------------------------------------------------------------------------

    def _refuse(self, answered: Replied, ticket: InFlightMail, settlement: Settlement) -> None:
        """5xx that no table knows. The verdict waits, because others may hear the same."""
        reply, mail = next(iter(answered.verdicts.values())).reply, answered.claim.reservation_id
        if self._probed is not None and repeats(reply, self._probed.reason or ""):
            self._still_refuses(answered, ticket, reply)
            return
        self._is_well()
        if self._probed is not None or not self._refusals.may_be_meant(reply) or self._is_suspect(mail):
            self._held.answer(settlement)
            return
        group = group_of(ticket.tag, ticket.template, mail)
        now = self._use.clock.monotonic()
        match self._refusals.heard(settlement, reply, group, ticket.index, now):
            case Finding.OF_THE_RELAY:
                self._put_back(self._refusals.take(reply), answered, reply)
                self._stop(Outage.of_reply(answered.relay, reply, why="it refuses every mail"))
            case Finding.OF_ITS_GROUP:
                self._put_back(self._refusals.take(reply, group), answered, reply)
                self._set_apart(group, ticket, mail, reply)

    def _still_refuses(self, answered: Replied, ticket: InFlightMail, reply: Reply) -> None:
        deferral = Replied(answered.claim, answered.relay, {"": Verdict(Kind.DEFERRED, reply)})
        alone = self._stands_alone(answered.claim.reservation_id)
        (self.paid if alone else self.heard).add(answered.claim.reservation_id)
        self._held.answer(self._settled(deferral, ticket) if alone else put_back(answered.claim, answered.relay, reply))
        self._stop(Outage.of_reply(answered.relay, reply, why="it refuses every mail"))

    def _put_back(self, settlements: list[Settlement], answered: Replied, reply: Reply) -> None:
        for s in settlements:
            self._held.answer(put_back(s.claim, answered.relay, reply))
            self.heard.add(s.claim.reservation_id)

    def _set_apart(self, group: Group, ticket: InFlightMail, mail: UUID, reply: Reply) -> None:
        """Send no more of a group in this run, whose mails are all refused alike."""
        if not isinstance(group, tuple):
            return
        kind, name = group
        without = self.without or Without()
        if name in (without.tags if kind == "tag" else without.templates):
            return
        tags = without.tags | ({name} if kind == "tag" else set())
        templates = without.templates | ({name} if kind == "template" else set())
        self.without = Without(tags, templates)
        text = f"mails of the {kind} {name} are put back, because the relay refuses each of them: {reply}"
        log.warning("%s", public(text))
        self._run.item_error(ItemError(ticket.index, mail, (text,)))

    # --- faults --------------------------------------------------------------------------------------------------

    def _blame(self, fault: RelayFault, ticket: InFlightMail) -> None:
        """A relay fault costs its mail nothing, until the mail itself looks like the cause."""
        log.info("given back: %s", public(fault.reason), extra=named(fault.claim))
        if fault.in_dialogue:
            self.answered = True  # It let us in, and answered this mail's MAIL.
        if fault.reply is not None and self._is_said_of_the_relay(fault, ticket, fault.reply):
            return
        self.again = True
        self._fault, self._is_in_dialogues = fault, self._is_in_dialogues and fault.in_dialogue
        mail = fault.claim.reservation_id
        if self._strikes.fault(mail if fault.in_dialogue else None) or fault.hopeless:
            self._stop(_outage(fault))
        self._faults[mail] += fault.in_dialogue
        outcome: Outcome = fault
        if fault.in_dialogue and self._faults[mail] >= FAULTS_OF_ONE_MAIL:
            reply = Reply(421, f"the relay broke {FAULTS_OF_ONE_MAIL} times in this mail's dialogue: {fault.reason}")
            outcome = Replied(fault.claim, fault.relay, {"": Verdict(Kind.DEFERRED, reply)})
        self._held.answer(self._settled(outcome, ticket))

    def _is_said_of_the_relay(self, fault: RelayFault, ticket: InFlightMail, reply: Reply) -> bool:
        """Judge a fault whose reply says that we are too fast, or may not send at all; False if it says neither."""
        kind = kind_of(reply)
        said = Replied(fault.claim, fault.relay, {"": Verdict(Kind.DEFERRED, reply)})
        if kind.concern is Concern.RATE:
            self._throttle(said, ticket, reply)
        elif kind.concern in _OF_US and fault.in_dialogue:
            self._complain(said, ticket, reply)
        elif kind.concern is Concern.QUOTA:
            self._stop(_outage(fault))
            self._held.answer(self._settled(fault, ticket))
        else:
            return False
        return True


def _outage(fault: RelayFault) -> Outage:
    """The relay stays away, or turns us away before any mail."""
    reason = one_line(fault.reason)
    if fault.reply is None or not kind_of(fault.reply).holds:
        return Outage(relay=fault.relay, reason=reason, asked=hinted(Reply(0, fault.reason)))
    found = Outage.of_reply(fault.relay, fault.reply)
    return Outage(relay=fault.relay, reason=reason, concern=found.concern, asked=found.asked, least=found.least)
