"""One of several relays of a lane: whether it gets mails now, and the mails that wait for it."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.application.sending.at_relay import AtRelay
from mailbatch.application.sending.routing.line import Line
from mailbatch.application.sending.routing.relay_stop import RelayStop
from mailbatch.domain.circuit import CircuitState, Outage
from mailbatch.domain.errors import RunFailed

if TYPE_CHECKING:
    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.sending import Slots
    from mailbatch.application.sending.in_flight import InFlight
    from mailbatch.application.sending.lane_stop import LaneStop
    from mailbatch.application.sending.put_off_mails import PutOffMails
    from mailbatch.application.sending.relay_health.allowance import NewAllowance
    from mailbatch.application.sending.relay_health.circuit_breaker import CircuitBreaker
    from mailbatch.application.sending.send_due import SendDue
    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.claimed import Claimed
    from mailbatch.domain.message import Claim

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""Seconds after which a lane looks again at a relay, if its circuit names no time."""
SILENT_AFTER = 5.0
"""Seconds without an answer after which a relay gets no further mail, until it answers one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a lane may use one of several relays.

    ``most``: how many claimed mails may wait for it. ``allowance``: keeps a lane to its rate.
    """

    name: str
    circuit_breaker: CircuitBreaker
    slots: Slots | None
    faults: int
    most: int
    allowance: NewAllowance | None = None


class RoutedRelay(AtRelay):
    """``queue`` has the claimed mails that wait for it, ``in_hand`` the one that is about to be composed."""

    def __init__(
        self, way: Way, use: SendDue, run: Run, in_flight: InFlight, lane: LaneStop, put_off: PutOffMails
    ) -> None:
        stop = RelayStop(lane)
        super().__init__(
            use,
            run,
            in_flight,
            stop,
            put_off,
            circuit_breaker=way.circuit_breaker,
            faults=way.faults,
            has_next=True,
            allowance=way.allowance,
        )
        self.way = way
        self.name = way.name
        self.queue: deque[Claimed] = deque()
        self.in_hand: Claimed | None = None
        self.line = Line(float(way.most))
        self.look_at = 0.0
        """When its circuit is to be looked at again, on the lane's clock, if it is away."""
        self._clock = use.clock
        self._has_probe = False
        self._is_recorded = False
        self._handed: set[Claim] = set()
        self._heard_at = 0.0

    @property
    def is_away(self) -> bool:
        """Whether it gets no mail in this pass."""
        return self.stop.outage is not None

    @property
    def is_probed(self) -> bool:
        """Whether it gets one mail, which is the probe, and no other before this one is answered."""
        return self.health.probed is not None

    def takes_mail(self) -> bool:
        """Whether it may get a mail now."""
        return not self.is_away and not (self.is_probed and self._has_probe) and not self.is_silent

    @property
    def is_silent(self) -> bool:
        """Whether it has answered none of its mails for a while. That is no fault yet, but the next relay is better."""
        return bool(self._handed) and self._clock.monotonic() - self._heard_at > SILENT_AFTER

    def is_busy(self) -> bool:
        """Return whether it has mails that it has not answered."""
        return bool(self._handed)

    def is_full(self) -> bool:
        """Whether as many mails wait for it as may."""
        return len(self.queue) >= self.way.most

    def next_mail(self) -> Claimed:
        """Take the next mail out of the queue, in hand."""
        if not self._handed:
            self._heard_at = self._clock.monotonic()
        self.in_hand = self.queue.popleft()
        self._handed.add(self.in_hand.claim)
        return self.in_hand

    def has_handed(self) -> None:
        """Note that the stream asks for the next mail. The one in hand went to the transport, or has failed before."""
        if self.in_hand is not None and self.health.handed_to != self.in_hand.index:
            self.forget(self.in_hand.claim)
        self.in_hand = None

    def forget(self, claim: Claim) -> None:
        """Note that a mail was not sent, so no answer to it will come."""
        self._handed.discard(claim)

    def heard(self, claim: Claim) -> None:
        """Note the outcome of a mail."""
        self._heard_at = self._clock.monotonic()
        self._handed.discard(claim)
        self.line.answered(self._heard_at)

    def add(self, claimed: Claimed, *, first: bool = False) -> None:
        """Let a mail wait for it, before all that wait if it is the ``first``."""
        (self.queue.appendleft if first else self.queue.append)(claimed)
        self._has_probe = self.is_probed

    # --- its circuit ---------------------------------------------------------------------------------------------

    def look(self, *, by_hand: bool, probes: bool) -> None:
        """Look whether it gets mails now. ``probes``: this lane may probe it. ``by_hand``: at once."""
        breaker = self.way.circuit_breaker
        if not probes:
            circuit = breaker.look()
            if circuit.state is not CircuitState.CLOSED:
                self._leave(circuit)
                return
            self._begin(None)
            return
        try:
            self._begin(breaker.circuit_to_probe(by_hand=by_hand))
        except RunFailed:
            self._leave(breaker.look())

    def has_failed(self) -> bool:
        """Return whether the relay became away by the last outcome. If it answered the probe, close the circuit."""
        if self.is_probed and self.health.lets_mail_in and not self.is_away:
            self.way.circuit_breaker.close()
            self._begin(None)
        return self.record()

    def record(self) -> bool:
        """Write an outage to the circuit, so that the relay is left alone for a while. Return whether it is a new one.

        The mails whose replies wait to be judged are put back before, because they were refused for it.
        """
        if self.stop.outage is None or self._is_recorded:
            return False
        self.judge.end_pass()
        self.health.record(self.stop.outage)
        self._leave(self.way.circuit_breaker.look())
        return True

    def _begin(self, probed: Circuit | None) -> None:
        self.stop.outage = None
        self._has_probe = self._is_recorded = False
        self._handed.clear()
        self.health.begin(probed)

    def _leave(self, circuit: Circuit) -> None:
        """Leave it alone until its circuit's time is over."""
        if self.stop.outage is None:
            self.stop.outage = Outage(relay=self.name, reason=circuit.reason or "it failed", concern=circuit.concern)
        self._is_recorded = True
        self.look_at = self._clock.monotonic() + (circuit.seconds_left or LOOK_EVERY)
