"""How mails go to a relay: over how many connections, how many on each, for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities

if TYPE_CHECKING:
    from mailbatch.application.ports.sending import Slots
    from mailbatch.infrastructure.smtp.climb import Climb
    from mailbatch.infrastructure.smtp.relay import SmtpRelay

_BEFORE_THE_RELAY = 0.8
"""The share of the relay's own idle limit after which we close a connection, so that no mail meets the limit."""


@dataclass(frozen=True)
class TransportConfig:
    """Up to ``connections`` connections to ``relay``, with up to ``window`` mails in flight on each.

    How much of the window is used depends on the mode, see ``DialogueMode``. Mails that are in flight when a connection
    breaks have no verdict, so the window also limits how many mails may be sent twice.
    ``capabilities`` keeps what was learned of the relay; all transports of a process share it.
    ``byte_budget``: bytes of unsettled mails from which no further mail is taken (one mail is always taken).
    ``wire_budget``: the same for bytes that are read when they are sent. They cost no memory, but a relay must take
    them in, and their mails are in doubt if the lane dies.
    ``mails_per_connection``: a connection is closed after so many mails, and opened anew; 0: no limit.
    ``idle_seconds``: a connection is closed after so many seconds without a mail, because the relay may be about to
    close it; 0: never.
    ``yield_every``: seconds without an outcome after which None is yielded, so that the caller can settle what came
    before; 0: never.
    ``slots`` counts the connections of all lanes and hosts, if they have a limit.
    ``climb`` changes the number of connections while mails are sent; without it there are always ``connections``.
    """

    relay: SmtpRelay
    connections: int = 4
    window: int = 32
    byte_budget: int = 4 * 2**20
    wire_budget: int = 64 * 2**20
    mails_per_connection: int = 0
    idle_seconds: float = 60.0
    yield_every: float = 0.0
    capabilities: RelayCapabilities = field(default_factory=RelayCapabilities)
    slots: Slots | None = None
    climb: Climb | None = None

    @property
    def idle_limit(self) -> float:
        """The seconds without a mail after which a connection is closed, before the relay does so; 0: never."""
        learned = self.capabilities.idle_seconds * _BEFORE_THE_RELAY
        return min(self.idle_seconds, learned) if learned and self.idle_seconds else learned or self.idle_seconds

    @property
    def max_mails(self) -> int:
        """The number of mails that a connection may carry, by the settings and by the relay; 0: no limit."""
        return min(filter(None, (self.mails_per_connection, self.capabilities.mails_per_connection)), default=0)
