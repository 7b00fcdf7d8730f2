"""Leave a relay alone that failed, and find out by one mail when it is well again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.circuit import CircuitPolicy, CircuitState, Step
from mailbatch.domain.errors import RunFailed, StoreError
from mailbatch.domain.run import public

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports import Circuits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayGuard:
    """The circuit of one relay, as a lane asks it and tells it.

    Nothing here may keep mail from going: a database that cannot say anything of the circuit counts as a closed one.
    """

    circuits: Circuits
    relay: str
    policy: CircuitPolicy
    jitter: Callable[[], float]

    def may_begin(self, *, by_hand: bool) -> bool:
        """Whether all lanes may go; False: one mail has to find out first, and ``probed`` or ``failed`` is told.

        Raises:
            RunFailed: the relay is to be left alone for now.
        """
        try:
            circuit = self.circuits.look(self.relay)
            match circuit.step(by_hand=by_hand):
                case Step.GO:
                    return True
                case Step.LEAVE:
                    raise RunFailed(circuit.told())
                case Step.PROBE:
                    self.circuits.half_open(self.relay)
        except StoreError as error:
            log.warning("the circuit of the relay cannot be read: %s", error)
            return True
        log.info("the relay %s is probed with one mail; it failed before: %s", self.relay, public(circuit.reason or ""))
        return False

    def is_closed(self) -> bool:
        """Whether the relay counts as well, for lanes that do not probe."""
        try:
            return self.circuits.look(self.relay).state is CircuitState.CLOSED
        except StoreError:
            return True

    def probed(self) -> None:
        """Tell that the relay answered."""
        try:
            self.circuits.close(self.relay)
        except StoreError as error:
            log.warning("the circuit of the relay cannot be closed: %s", error)
        else:
            log.info("the relay %s is well again", self.relay)

    def failed(self, reason: str, asked: float | None = None) -> None:
        """Tell that the relay stays away, and for how many seconds it ``asked`` to be left alone."""
        reason = reason.removeprefix(f"{self.relay}: ")
        try:
            failures = self.circuits.look(self.relay).failures + 1
            seconds = self.policy.open_for(failures, self.jitter(), asked)
            circuit = self.circuits.open(self.relay, reason, seconds)
        except StoreError as error:
            log.warning("the circuit of the relay cannot be opened: %s", error)
        else:
            log.warning("%s", public(circuit.told()))
