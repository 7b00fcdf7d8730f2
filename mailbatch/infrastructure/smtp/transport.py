"""The way to a relay over several connections: a stream of messages in, a stream of outcomes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.protocol import Manners
from mailbatch.infrastructure.smtp.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from mailbatch.application.ports import Slots
    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome
    from mailbatch.infrastructure.smtp.relay import SmtpRelay


@dataclass(frozen=True)
class SmtpTransport:
    """A ``Transport`` to ``relay``: up to ``window`` mails in flight on each of up to ``connections`` connections.

    How many of the window a relay lets us use is for its extensions to say, see ``protocol``; what is in flight when a
    connection breaks has no verdict, so the window is also the bound of what may go out twice.
    ``manners`` keeps what was learnt of the relay: give the same to all transports of a process.
    ``byte_budget``: bytes of mails in flight beyond which no further one is taken (a single one always is).
    ``mails_per_connection``: after so many a connection is closed and opened anew; 0 for no limit.
    ``idle_seconds``: so it is after so long without a mail, because the relay may be about to close it; 0 for never.
    ``slots``: who says how many connections there may be in all, if there is a limit.
    """

    relay: SmtpRelay
    connections: int = 4
    window: int = 32
    byte_budget: int = 4 * 2**20
    mails_per_connection: int = 0
    idle_seconds: float = 60.0
    manners: Manners = field(default_factory=Manners)
    slots: Slots | None = None

    def send(
        self,
        messages: Iterable[Message],
        permit: Callable[[], bool],
        last_look: Callable[[Sequence[Claim]], set[Claim]] | None = None,
    ) -> Generator[Outcome, None, None]:
        """Send ``messages``; everything that is asked is asked in the caller's thread.

        Connections open when there is something for them, and close when this iterator ends or is closed. Closing it
        ends dialogues where they stand: who wants all outcomes lets ``messages`` end instead. If pulling ``messages``
        raises, what is in flight comes out first, then the error. ``last_look`` goes with ``window`` 1.
        """
        stream = Stream(self, permit, last_look)
        try:
            yield from stream.run(messages)
        finally:
            stream.close()
