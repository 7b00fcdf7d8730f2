"""Leave a relay alone that failed, and find out by one mail when it is well again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.circuit import Circuit, CircuitPolicy, CircuitState, Outage, Step
from mailbatch.domain.errors import RunFailed, StoreError
from mailbatch.domain.redaction.addresses import public

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from mailbatch.application.ports.sending import Circuits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """The circuit of one relay, as a lane asks it and tells it.

    Nothing here may keep mail from going: a database that cannot say anything of the circuit counts as a closed one.
    """

    circuits: Circuits
    relay: str
    policy: CircuitPolicy
    jitter: Callable[[], float]

    def to_probe(self, *, by_hand: bool) -> Circuit | None:
        """The circuit if one mail has to find out first, and ``probed`` or ``failed`` is told; None: all may go.

        Raises:
            RunFailed: the relay is to be left alone for now.
        """
        try:
            circuit = self.circuits.look(self.relay)
            match circuit.step(by_hand=by_hand):
                case Step.GO:
                    return None
                case Step.LEAVE:
                    raise RunFailed(circuit.told())
                case Step.PROBE:
                    self.circuits.half_open(self.relay)
        except StoreError as error:
            log.warning("the circuit of the relay cannot be read: %s", error)
            return None
        log.info("the relay %s is probed with one mail; it failed before: %s", self.relay, public(circuit.reason or ""))
        return circuit

    def look(self) -> Circuit:
        """The relay's circuit, for lanes that do not probe."""
        try:
            return self.circuits.look(self.relay)
        except StoreError:
            return Circuit(relay=self.relay)

    def is_closed(self) -> bool:
        """Whether the relay counts as well, for lanes that do not probe."""
        return self.look().state is CircuitState.CLOSED

    def probed(self) -> None:
        """Tell that the relay answered."""
        try:
            self.circuits.close(self.relay)
        except StoreError as error:
            log.warning("the circuit of the relay cannot be closed: %s", error)
        else:
            log.info("the relay %s is well again", self.relay)

    def failed(
        self, outage: Outage, heard: Collection[UUID] = (), paid: Collection[UUID] = (), *, probed: bool = False
    ) -> None:
        """Tell why the relay is left alone, and which mails ``heard`` that it takes none; ``probed``: as the probe.

        For those that ``paid`` it counts as their own fault, and they begin anew.
        """
        try:
            was = self.circuits.look(self.relay)
            seconds = self.policy.open_for(was.failures + 1, self.jitter(), outage.asked, outage.least)
            suspects = was.suspected(heard, paid, probed=probed)
            circuit = self.circuits.open(self.relay, outage.reason, seconds, outage.concern, suspects)
        except StoreError as error:
            log.warning("the circuit of the relay cannot be opened: %s", error)
        else:
            log.warning("%s", public(circuit.told()))
