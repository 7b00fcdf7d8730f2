"""The terms on which mails go to a relay: how many connections, how much on each, for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities

if TYPE_CHECKING:
    from mailbatch.application.ports.sending import Slots
    from mailbatch.infrastructure.smtp.relay import SmtpRelay


@dataclass(frozen=True)
class TransportConfig:
    """To ``relay``, with up to ``window`` mails in flight on each of up to ``connections`` connections.

    How many of the window a relay lets us use is for its extensions to say, see ``protocol``; what is in flight when a
    connection breaks has no verdict, so the window is also the bound of what may go out twice.
    ``capabilities`` keeps what was learnt of the relay: give the same to all transports of a process.
    ``byte_budget``: bytes of mails in flight beyond which no further one is taken (a single one always is).
    ``mails_per_connection``: after so many a connection is closed and opened anew; 0 for no limit.
    ``idle_seconds``: so it is after so long without a mail, because the relay may be about to close it; 0 for never.
    ``yield_every``: seconds without an outcome after which None is yielded, so that the caller can settle what came
    before; 0 for never.
    ``slots``: who says how many connections there may be in all, if there is a limit.
    """

    relay: SmtpRelay
    connections: int = 4
    window: int = 32
    byte_budget: int = 4 * 2**20
    mails_per_connection: int = 0
    idle_seconds: float = 60.0
    yield_every: float = 0.0
    capabilities: RelayCapabilities = field(default_factory=RelayCapabilities)
    slots: Slots | None = None

    @property
    def max_mails(self) -> int:
        """How many mails a connection may carry, by the settings and by what the relay said; 0 for no limit."""
        return min(filter(None, (self.mails_per_connection, self.capabilities.mails_per_connection)), default=0)
