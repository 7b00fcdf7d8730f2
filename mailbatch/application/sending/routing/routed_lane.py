"""One lane of a run that sends over several relays: the four steps of ``send_due.py``, with a stream for each relay.

A relay that is away or slow holds no mail of another one. Its mails go to the next relay of their route, or wait in the
database, one behind the other.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.application.ports.sending import RelayStream
from mailbatch.application.sending.claim_loop import MAX_PROBE_CANDIDATES, Mode
from mailbatch.application.sending.routing.dealer import Dealer
from mailbatch.application.sending.routing.judges import Judges
from mailbatch.application.sending.routing.routed_relay import RoutedRelay
from mailbatch.application.sending.send_due import Lane
from mailbatch.domain.errors import RunFailed
from mailbatch.domain.outcome import NotSent
from mailbatch.domain.reply_kinds import is_of_the_relay
from mailbatch.domain.settlement import released

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.sending import Transports
    from mailbatch.application.sending.routing.routed_relay import Way
    from mailbatch.application.sending.send_due import SendDue
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.outcome import ContentFault, Outcome, RelayFault, Replied
    from mailbatch.domain.routes import Route
    from mailbatch.domain.traits import Traits


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralRelays:
    """The relays of a lane, in the order of the relays' file, and which of them takes which mails."""

    ways: Sequence[Way]
    routes: Sequence[Route]
    read_traits: Callable[[ClaimedMail], Traits]
    transports: Transports

    def lane(self, use: SendDue, run: Run, number: int) -> Lane:
        """Return a lane that sends over them."""
        return RoutedLane(use, self, run, number)


class RoutedLane(Lane):
    """A lane with several relays. What it has for each of them is a ``RoutedRelay``."""

    def __init__(self, use: SendDue, several: SeveralRelays, run: Run, number: int) -> None:
        super().__init__(use, run, number)
        self.several = several
        ways = several.ways
        self.relays = {way.name: RoutedRelay(way, use, run, self.in_flight, self.stop, self.put_off) for way in ways}
        self.judges = Judges([relay.judge for relay in self.relays.values()])
        self.claims.judge = self.judges
        # It is for all mails that the lane holds: a relay that is slow would stop the claims for the others.
        self.claims.limit = None
        self.dealer = Dealer(
            self.relays,
            several.routes,
            several.read_traits,
            use.backlog,
            self.in_flight,
            use.clock,
            self.stop,
            self._cover,
            use.urgent,
        )
        self._leads = number == 0
        self._by_hand = run.trigger.by_hand
        self._has_looked = False

    # --- passes --------------------------------------------------------------------------------------------------

    def _send_what_is_due(self) -> None:
        """Send all due mails; see ``Lane``. Raises ``RunFailed`` if no relay takes mails."""
        while not self.stop.is_set():
            self._look()
            if not self._pass(Mode.NORMAL if self._has_working() else Mode.PROBE):
                break
        while self.claims.has_isolated and self._leads and not self.stop.is_set():
            self._look()
            if self._pass(Mode.ISOLATED):
                return
        if self.dealer.waits is not None and any(relay.is_away for relay in self.relays.values()):
            self.run.note_fault(self.dealer.waits)

    def send_probe(self) -> None:
        """If no relay takes more than a probe, send a probe to each whose time has come."""
        with self._working():
            self._look()
            if not self.stop.is_set() and not self._has_working() and self._pass(Mode.PROBE):
                self._look()

    def _look(self) -> None:
        """Look which relays take mails. Raises ``RunFailed`` if none does."""
        now = self.use.clock.monotonic()
        for relay in self.relays.values():
            if not self._has_looked or (relay.is_away and relay.look_at <= now):
                relay.look(by_hand=self._by_hand and not self._has_looked, probes=self._leads)
        self._has_looked = True
        outages = [relay.stop.outage for relay in self.relays.values()]
        if all(outage is not None for outage in outages):
            raise RunFailed("; ".join(outage.told() for outage in outages if outage is not None))

    def _has_working(self) -> bool:
        """Whether a relay takes more than a probe."""
        return any(not relay.is_away and not relay.is_probed for relay in self.relays.values())

    def _pass(self, mode: Mode) -> bool:
        """Go through the backlog once. Return whether another pass must follow.

        It must as in ``Lane._pass``; and if another relay takes mails now, or mails still wait in memory for one.
        """
        late_intent = self.use.strict or mode is Mode.ISOLATED
        before = self._states()
        self.judges.begin_pass()
        self._begin_claiming(mode)
        streams = [self._stream(relay, late_intent=late_intent) for relay in self.relays.values() if not relay.is_away]
        outcomes = self.several.transports.send(streams, self._commit_intent if late_intent else None)
        with closing(outcomes):
            for outcome in outcomes:
                self._settle(outcome)
        self.judges.end_pass()
        self._end_pass()
        goes_on = self.judges.has_returned or self.claims.has_overslept or self.dealer.must_look
        return goes_on or self._states() != before or any(relay.queue for relay in self.relays.values())

    def _begin_claiming(self, mode: Mode) -> None:
        """Claim as ``mode`` says. For probes only a few mails are claimed, of which those go that never were probes."""
        probed = [relay.health.suspects for relay in self.relays.values() if relay.is_probed]
        few = min(max(map(len, probed), default=0) + len(probed), MAX_PROBE_CANDIDATES)
        self.claims.group_size = few if mode is Mode.PROBE else self.use.group_size
        claims = Mode.ISOLATED if mode is Mode.ISOLATED else Mode.NORMAL
        self.dealer.begin(lambda: self.claims.groups(claims), repeats=mode is Mode.NORMAL)

    def _stream(self, relay: RoutedRelay, *, late_intent: bool) -> RelayStream:
        pages = self.dealer.pages_for(relay)
        return RelayStream(relay.name, relay.stream.messages(pages, late_intent=late_intent), self._permit(relay))

    def _states(self) -> list[tuple[bool, bool]]:
        return [(relay.is_away, relay.is_probed) for relay in self.relays.values()]

    def _cover(self) -> None:
        """Let the run's bound cover one more group. Mails that wait for a relay count as on the wire, unless strict."""
        if not self.use.strict:
            undecided = len(self.in_flight.mails) - len(self.in_flight.decided)
            most = sum(2 * relay.way.most for relay in self.relays.values())
            self.bound.cover(undecided + self.claims.group_size, most)

    def _permit(self, relay: RoutedRelay) -> Callable[[], bool]:
        return lambda: not relay.stop.is_set() and not self.lease.has_ended()

    def _end_pass(self) -> None:
        """Write the outages of this pass, deal out again what waits for those relays, and write what is decided.

        If the lease has ended, nothing that was claimed may be sent any more: release what waits.
        """
        for relay in self.relays.values():
            relay.record()
            self._take_back(relay)
        for relay in self.relays.values():
            if self.claims.has_overslept:
                self._release(relay)
            elif relay.is_away:
                self.dealer.deal_anew(relay)
        self.in_flight.flush()

    def _release(self, relay: RoutedRelay) -> None:
        for mail in relay.queue:
            self.in_flight.decide(released(mail.claim))
        relay.queue.clear()

    def _take_back(self, relay: RoutedRelay) -> None:
        """Take a mail back into the queue that was in hand when the relay became away, and was not handed over."""
        mail, relay.in_hand = relay.in_hand, None
        if mail is None or relay.health.handed_to == mail.index or mail.claim not in self.in_flight.mails:
            return
        relay.forget(mail.claim)
        if all(settlement.claim != mail.claim for settlement in self.in_flight.decided):
            relay.queue.appendleft(mail)

    # --- outcomes ------------------------------------------------------------------------------------------------

    def _settle(self, outcome: Outcome | None) -> None:
        """Let the judge of the relay decide what becomes of the mail; see ``Lane._settle``."""
        if outcome is None:
            for one in self.relays.values():
                one.refusals.settle_overdue()
            self.in_flight.flush()
            return
        if isinstance(outcome, NotSent):
            self._any.judge.take(outcome)
            for relay in self.relays.values():
                relay.forget(outcome.claim)
        else:
            self._settle_at(self.relays[outcome.relay], outcome)
        self.in_flight.flush_if_due(nothing_follows=self.dealer.has_ended)

    def _settle_at(self, relay: RoutedRelay, outcome: Replied | RelayFault | ContentFault) -> None:
        relay.judge.take(outcome)
        relay.heard(outcome.claim)
        if is_of_the_relay(outcome):
            self.dealer.failed_at[outcome.claim.reservation_id].add(relay.name)
        if relay.has_failed():
            self.dealer.deal_anew(relay)

    @property
    def _any(self) -> RoutedRelay:
        return next(iter(self.relays.values()))

    # --- before and after ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        super()._begin()
        for relay in self.relays.values():
            if (slots := relay.way.slots) is not None:
                self.run.every(slots.renew_every, slots.renew)

    def _end(self) -> None:
        self.judges.end()
        for relay in self.relays.values():
            relay.record()
            relay.end()
        super()._end()
