"""Send what is due: claim → compose → transmit → settle.

Each of the first three steps is a stream that pulls from the step before it. The transport pulls a message when it can
begin to send it. Then composing pulls a mail, and claiming claims the next group when no mail of the current group is
left. So the next group is claimed and composed while the current one is on the wire. The claim of the next group also
writes the settlements that are decided by then. So at most two groups are claimed and not yet settled: one on the wire,
and one ahead.

Above 300 lines because it puts the parts of a lane together.
"""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.application.sending.at_relay import AtRelay
from mailbatch.application.sending.claim_loop import ClaimLoop, Mode
from mailbatch.application.sending.crash_bound import CrashBound
from mailbatch.application.sending.housekeeping import Housekeeping
from mailbatch.application.sending.in_flight import InFlight
from mailbatch.application.sending.lane_lease import LaneLease
from mailbatch.application.sending.lane_stop import LaneStop
from mailbatch.application.sending.put_off_mails import PutOffMails
from mailbatch.application.sending.relay_health.relay_failures import ConsecutiveFailures
from mailbatch.domain.errors import RunFailed, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.sending import Backlog, Composer, Slots, Transport, Watchdog
    from mailbatch.application.ports.system import Clock
    from mailbatch.application.sending.gates.gates import Gates
    from mailbatch.application.sending.in_flight_limit import Urgency
    from mailbatch.application.sending.relay_health.allowance import NewAllowance
    from mailbatch.application.sending.relay_health.circuit_breaker import CircuitBreaker
    from mailbatch.application.sending.routing.routed_lane import SeveralRelays
    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.lifecycle import OnDoubt
    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Outcome
    from mailbatch.domain.retry import RetryPolicy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendDue:
    """The work of one lane in a run.

    ``jitter`` returns a number in [0, 1). ``lease`` and ``relay_patience`` in seconds, ``group_size`` and ``page_size``
    in mails. ``strict``: the intent to send is committed just before the last bytes of each mail, not with the claim.
    ``several``: the relays, if there are more than one, in place of ``transport``, ``circuit_breaker`` and ``slots``.
    ``gates`` hold back mails whose time has come. ``relay_faults``: so many faults in a row end the run; so do fewer,
    if they go on for ``relay_patience``. ``bound``: the mails in doubt that the run's row first allows for this lane.
    ``urgent``: which mail is urgent; None if none is. ``allowance``: keeps a lane to the rate of its relay.
    """

    backlog: Backlog
    compose: Composer
    transport: Transport
    clock: Clock
    jitter: Callable[[], float]
    retry: RetryPolicy
    on_doubt: OnDoubt
    group_size: int
    page_size: int
    lease: float
    bound: int = 0
    strict: bool = False
    relay_faults: int = 16
    relay_patience: float = 5.0
    gates: Gates | None = None
    circuit_breaker: CircuitBreaker | None = None
    slots: Slots | None = None
    watchdog: Watchdog | None = None
    urgent: Urgency | None = None
    allowance: NewAllowance | None = None
    several: SeveralRelays | None = None

    def __call__(self, run: Run, lane: int = 0) -> None:
        """Send until nothing is due or the run must stop.

        Raises:
            RunFailed: the database or the relay fails. The lane has tried to write the verdicts that it has.
        """
        self._lane(run, lane).send_due()

    def probe(self, run: Run) -> None:
        """If the relay's circuit is open, send one mail to test the relay before any other mail is claimed.

        Raises:
            RunFailed: it is too early for a test, or the relay failed again.
        """
        if self.several is not None:
            self._lane(run, 0).send_probe()
            return
        breaker = self.circuit_breaker
        if breaker is None or (circuit := breaker.circuit_to_probe(by_hand=run.trigger.by_hand)) is None:
            return
        lane = Lane(self, run, 0, circuit)
        lane.send_probe()
        if lane.health.lets_mail_in:
            breaker.close()

    def _lane(self, run: Run, number: int) -> Lane:
        return Lane(self, run, number) if self.several is None else self.several.lane(self, run, number)

    def relay_failures(self, most: int) -> ConsecutiveFailures:
        """Return a new counter of a relay's failures in a row, of which ``most`` make it away."""
        return ConsecutiveFailures(self.clock, most=most, patience=self.relay_patience, most_doubts=2 * self.group_size)


class Lane:
    """The parts of one lane, and its four steps. ``probed``: the relay's circuit, if the lane only sends the probe."""

    def __init__(self, use: SendDue, run: Run, number: int, probed: Circuit | None = None) -> None:
        self.use = use
        self.run = run
        self.number = number
        self.stop = LaneStop(run.stop)
        self.lease = LaneLease(use.backlog, use.clock, use.lease, run.id, number)
        self.in_flight = InFlight(use.backlog, use.clock, use.lease, run, number)
        self.put_off = PutOffMails(clock=use.clock, note_fault=run.note_fault)
        self.at_relay = AtRelay(
            use,
            run,
            self.in_flight,
            self.stop,
            self.put_off,
            circuit_breaker=use.circuit_breaker,
            faults=use.relay_faults,
            probed=probed,
            allowance=use.allowance,
        )
        self.health, self.judge = self.at_relay.health, self.at_relay.judge
        self.stream, self.refusals = self.at_relay.stream, self.at_relay.refusals
        self.housekeeping = Housekeeping(
            backlog=use.backlog,
            run=run,
            lane=number,
            in_flight=self.in_flight,
            retry=use.retry,
            on_doubt=use.on_doubt,
            page_size=use.page_size,
            gates=use.gates,
        )
        self.bound = CrashBound(run, use.bound)
        self.claims = ClaimLoop(
            backlog=use.backlog,
            clock=use.clock,
            run_id=run.id,
            lane=number,
            group_size=use.group_size,
            page_size=use.page_size,
            capacity=lambda: use.transport.capacity,
            bound=None if use.strict else self.bound,
            stop=self.stop,
            in_flight=self.in_flight,
            lease=self.lease,
            housekeeping=self.housekeeping,
            health=self.health,
            throttling=self.at_relay.throttling,
            judge=self.judge,
            put_off=self.put_off,
            urgent=use.urgent,
            limit=None if use.urgent is None else use.urgent.limit(use.group_size, use.clock.monotonic()),
        )

    # --- the four steps ------------------------------------------------------------------------------------------

    def send_due(self) -> None:
        """Send all due mails, and those that gates put back for a moment."""
        with self._working():
            self._send_what_is_due()
            while self.use.gates is not None and self.use.gates.wait(self.stop.is_set):
                self._send_what_is_due()

    def _send_what_is_due(self) -> None:
        """Send all due mails. Mails whose sending processes died are sent last, one at a time, by lane 0 only."""
        while not self.stop.is_set() and self._pass(Mode.NORMAL):
            pass
        while self.claims.has_isolated and not self.number and not self.stop.is_set():
            if self._pass(Mode.ISOLATED):
                return

    def send_probe(self) -> None:
        """Send one mail: the probe."""
        with self._working():
            if not self.stop.is_set():
                self._pass(Mode.PROBE)

    def _pass(self, mode: Mode) -> bool:
        """Go through the backlog once. Return whether another pass must follow.

        It must if mails were put back that can be sent in this run, or if the pass ended because the lease had ended.
        """
        late_intent = self.use.strict or mode is Mode.ISOLATED
        self.judge.begin_pass()
        commit_intent = self._commit_intent if late_intent else None
        groups = self.claims.groups(mode)  # 1. claim
        messages = self.stream.messages(groups, late_intent=late_intent)  # 2. compose
        outcomes = self.use.transport.send(messages, self._may_send, commit_intent)  # 3. transmit
        with closing(outcomes):
            for outcome in outcomes:
                self._settle(outcome)  # 4. settle
        self.judge.end_pass()
        self.in_flight.flush()
        return self.judge.has_returned or self.claims.has_overslept

    def _settle(self, outcome: Outcome | None) -> None:
        """Decide what becomes of a mail. The next claim writes the decision, or this, if one has waited for a second.

        None comes from the transport about every second without an outcome: then all decisions are written.
        """
        if outcome is None:
            self.refusals.settle_overdue()
            self.in_flight.flush()
        else:
            self.judge.take(outcome)
            self.in_flight.flush_if_due(nothing_follows=self.stream.has_ended)

    # --- callbacks of the transport ------------------------------------------------------------------------------

    def _may_send(self) -> bool:
        """Return whether a mail's first byte may go out. The transport calls this just before it writes the byte."""
        return not self.stop.is_set() and not self.lease.has_ended()

    def _commit_intent(self, claims: Sequence[Claim]) -> set[Claim]:
        """Commit the intent to send the last bytes of ``claims``. Return the claims whose last bytes may go out.

        If the process dies before this commit, the mails were not sent. If it dies later, they are in doubt. If it is
        not known whether the commit succeeded, nothing goes out.
        """
        try:
            self.in_flight.flush()  # a mail whose verdict is not written would be in doubt beside these
            if self.use.strict:
                undecided = self.in_flight.on_wire + self.claims.judge.waiting
                self.bound.cover(undecided + len(claims), self.use.transport.capacity)
            granted = self.use.backlog.commit_intent(self.run.id, claims) if self._may_send() else set()
        except RunFailed as error:
            self.stop.database_failed(error)
            return set()
        except StoreError as error:
            log.warning(
                "%d mails are withdrawn, because the intent to send them was not committed: %s", len(claims), error
            )
            self.in_flight.note_intent(claims)  # perhaps only the reply to the commit was lost
            return set()
        if not self._may_send():  # the lease ended, or a stop was requested, during the commit
            self.in_flight.note_intent(granted)
            return set()
        for claim in granted:
            self.in_flight.mails[claim].on_wire = True
        return granted

    # --- before and after ----------------------------------------------------------------------------------------

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Start renewing leases and slots; at the end settle, and release the mails that were not sent.

        Raises:
            RunFailed: the database or the relay fails.
        """
        self._begin()
        try:
            yield
        except RunFailed as error:
            self.stop.database_failed(error)
        finally:
            self._end()
        if self.stop.failure is not None:
            raise self.stop.failure
        if (outage := self.stop.outage) is not None:
            self.health.record(outage)
            raise RunFailed(outage.told())

    def _begin(self) -> None:
        use = self.use
        self.run.every(use.lease / 3, self.lease.renew)
        if use.slots is not None:
            self.run.every(use.slots.renew_every, use.slots.renew)
        if use.watchdog is not None:
            use.watchdog.begin()
            self.run.every(use.watchdog.renew_every, use.watchdog.renew)

    def _end(self) -> None:
        if self.use.watchdog is not None:
            self.use.watchdog.end()
        self.judge.end()
        self.at_relay.end()
        if (failure := self.in_flight.give_back()) is None:
            self.housekeeping.release_orphans()
        else:
            self.stop.database_failed(failure)
