"""What a lane knows of its relay while it works."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from mailbatch.domain.circuit import PROBES_ALONE, Circuit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from mailbatch.application.sending.lane_stop import LaneStop
    from mailbatch.application.sending.relay_health.circuit_breaker import CircuitBreaker
    from mailbatch.application.sending.relay_health.relay_failures import ConsecutiveFailures
    from mailbatch.domain.circuit import Outage

_NO_SUSPECTS: Mapping[UUID, int] = MappingProxyType({})


class RelayHealth:
    """Collects what the outcomes say of the relay.

    ``probed``: the relay's circuit, if the lane only sends the probe. The circuit breaker is optional; without it
    nothing is known of earlier runs.
    """

    def __init__(
        self,
        stop: LaneStop,
        failures: ConsecutiveFailures,
        circuit_breaker: CircuitBreaker | None = None,
        probed: Circuit | None = None,
    ) -> None:
        self.failures = failures
        self.probed = probed
        self.lets_mail_in = False
        """The relay answered a mail of this lane."""
        self.handed_to = 0
        """The item index of the mail that was handed over last."""
        self.accepted_to = 0
        """The highest item index of a mail that the relay accepted."""
        self.refused: set[UUID] = set()
        """Mails that were refused because the relay takes no mail at all."""
        self.charged: set[UUID] = set()
        """Mails whose refusal counts as their own fault, because they were the probe so often."""
        self._stop = stop
        self._circuit_breaker = circuit_breaker
        self._known: Circuit | None = None

    @property
    def suspects(self) -> Mapping[UUID, int]:
        """Mails that may be the reason why the relay fails, with how often each was the probe."""
        return self.probed.suspects if self.probed is not None else _NO_SUSPECTS

    def begin(self, probed: Circuit | None) -> None:
        """Begin anew, because the relay gets mails again, or ``probed`` with one mail."""
        self.probed = probed
        self.lets_mail_in = False
        self.failures.reset()
        self.refused.clear()
        self.charged.clear()
        self._known = None

    def answered(self) -> None:
        """Note that the relay answered a mail: failures in a row have ended."""
        self.lets_mail_in = True
        self.failures.reset()

    def accepted(self, index: int) -> None:
        """Note that the relay accepted the mail with this item index."""
        self.answered()
        self.accepted_to = max(self.accepted_to, index)

    def failed(self, outage: Outage) -> None:
        """Note that the relay stays away or takes no mail. The lane stops."""
        self._stop.relay_failed(outage)

    def is_itself_the_reason(self, mail: UUID) -> bool:
        """Return whether ``mail`` is the probe, and was it so often that the mail itself may be the reason."""
        return self.probed is not None and self.suspects.get(mail, 0) + 1 >= PROBES_ALONE

    def is_suspect(self, mail: UUID) -> bool:
        """Return whether an earlier run saw ``mail`` refused for a reason that concerned the relay, not the mail."""
        if self._known is None:
            breaker = self._circuit_breaker
            self._known = breaker.look() if breaker is not None else Circuit(relay="")
        return mail in self._known.suspects

    def record(self, outage: Outage) -> None:
        """Write the outage to the relay's circuit, so that later runs leave the relay alone."""
        if self._circuit_breaker is not None:
            self._circuit_breaker.open(outage, self.refused, self.charged, probed=self.probed is not None)
