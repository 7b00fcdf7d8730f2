"""Stops sending to a relay that failed, and later probes with one mail whether the relay takes mail again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.circuit import Circuit, CircuitPolicy, Outage, Step
from mailbatch.domain.errors import RunFailed, StoreError
from mailbatch.domain.redaction.addresses import public

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from mailbatch.application.ports.sending import Circuits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """The circuit of one relay, which all runs share. ``jitter`` returns a number in [0, 1).

    If the database fails, the circuit counts as closed, so that mails are still sent.
    """

    circuits: Circuits
    relay: str
    policy: CircuitPolicy
    jitter: Callable[[], float]

    def circuit_to_probe(self, *, by_hand: bool) -> Circuit | None:
        """Return the circuit if one mail must probe the relay first, or None if all mails may go.

        ``by_hand``: an operator started the run, so it probes at once. After the probe call ``close`` or ``open``.

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
        """Return the circuit; do not change it."""
        try:
            return self.circuits.look(self.relay)
        except StoreError:
            return Circuit(relay=self.relay)

    def close(self) -> None:
        """Note that the relay answered the probe."""
        try:
            self.circuits.close(self.relay)
        except StoreError as error:
            log.warning("the circuit of the relay cannot be closed: %s", error)
        else:
            log.info("the relay %s takes mail again", self.relay)

    def open(
        self, outage: Outage, refused: Collection[UUID] = (), charged: Collection[UUID] = (), *, probed: bool = False
    ) -> None:
        """Leave the relay alone because of ``outage``.

        ``refused``: mails that it refused although they may not be the reason. ``probed``: they were the probe.
        ``charged``: mails that lost an attempt for it, as for their own fault; they are no longer suspects.
        """
        try:
            before = self.circuits.look(self.relay)
            seconds = self.policy.open_for(before.failures + 1, self.jitter(), outage.asked, outage.least)
            suspects = before.suspected(refused, charged, probed=probed)
            circuit = self.circuits.open(self.relay, outage.reason, seconds, outage.concern, suspects)
        except StoreError as error:
            log.warning("the circuit of the relay cannot be opened: %s", error)
        else:
            log.warning("%s", public(circuit.told()))
