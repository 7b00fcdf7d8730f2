"""What a lane has for its relay: what it knows of it, who judges the outcomes, and the stream of messages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mailbatch.application.sending.message_stream import MessageStream
from mailbatch.application.sending.relay_health.complaints import Complaints
from mailbatch.application.sending.relay_health.faults import Faults
from mailbatch.application.sending.relay_health.health import RelayHealth
from mailbatch.application.sending.relay_health.judge import Judge
from mailbatch.application.sending.relay_health.own_verdict import OwnVerdict
from mailbatch.application.sending.relay_health.permanent_refusals import PermanentRefusals
from mailbatch.application.sending.relay_health.throttling import Throttling

if TYPE_CHECKING:
    from mailbatch.application.ports.runs import Run
    from mailbatch.application.sending.in_flight import InFlight
    from mailbatch.application.sending.lane_stop import LaneStop
    from mailbatch.application.sending.put_off_mails import PutOffMails
    from mailbatch.application.sending.relay_health.allowance import NewAllowance
    from mailbatch.application.sending.relay_health.circuit_breaker import CircuitBreaker
    from mailbatch.application.sending.send_due import SendDue
    from mailbatch.domain.circuit import Circuit


class AtRelay:
    """``probed``: the relay's circuit, if only a probe is sent. ``faults``: so many in a row make the relay away.

    ``has_next``: other relays take its mails meanwhile. ``allowance``: keeps the lane to the rate of the relay.
    """

    def __init__(
        self,
        use: SendDue,
        run: Run,
        in_flight: InFlight,
        stop: LaneStop,
        put_off: PutOffMails,
        *,
        circuit_breaker: CircuitBreaker | None,
        faults: int,
        probed: Circuit | None = None,
        has_next: bool = False,
        allowance: NewAllowance | None = None,
    ) -> None:
        self.stop = stop
        self._in_flight = in_flight
        self.health = RelayHealth(stop, use.relay_failures(faults), circuit_breaker, probed)
        own = OwnVerdict(use.retry, use.on_doubt, use.jitter)
        self.allowance = None if allowance is None else allowance(stop, self.health, self.is_busy)
        self.throttling = Throttling(use.clock, stop, self.health, own, self._most_at_once())
        self.refusals = PermanentRefusals(use.clock, run, in_flight, self.health, own)
        self.judge = Judge(
            clock=use.clock,
            in_flight=in_flight,
            health=self.health,
            own=own,
            throttling=self.throttling,
            complaints=Complaints(stop, in_flight, self.health, own),
            refusals=self.refusals,
            faults=Faults(self.health, has_next=has_next),
            put_off=put_off,
        )
        self.stream = MessageStream(
            backlog=use.backlog,
            compose=use.compose,
            stop=stop,
            in_flight=in_flight,
            throttling=self.throttling,
            allowance=self.allowance,
            refusals=self.refusals,
            gates=use.gates,
            own=own,
            put_off=put_off,
        )

    def is_busy(self) -> bool:
        """Return whether the relay has mails that it has not answered."""
        handed = sum(mail.index <= self.health.handed_to for mail in self._in_flight.mails.values())
        return handed > len(self._in_flight.decided) + self.judge.waiting

    def end(self) -> None:
        """Give back what the lane may have sent, and did not."""
        if self.allowance is not None:
            self.allowance.end()

    def _most_at_once(self) -> float:
        """Return how many mails may go in a second."""
        at_once = None if self.allowance is None else self.allowance.allowed.at_once
        return math.inf if at_once is None else float(at_once)
