"""Sends a stream of messages to a relay over several connections, and returns a stream of outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.loop import SendLoop
from mailbatch.infrastructure.smtp.loops import SendLoops
from mailbatch.infrastructure.smtp.transport_config import TransportConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from mailbatch.application.ports.sending import Nap, RelayStream
    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome


@dataclass(frozen=True)
class SmtpTransport(TransportConfig):
    """The port ``Transport`` over SMTP."""

    @property
    def capacity(self) -> int:
        """How many mails can be in flight; it changes with the number of connections. 0 if this number is fixed."""
        return self.climb.capacity if self.climb is not None else 0

    def send(
        self,
        messages: Iterable[Message | Nap],
        permit: Callable[[], bool],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None,
    ) -> Generator[Outcome | None, None, None]:
        """Send ``messages``; all callbacks are called in the caller's thread.

        Connections are opened when there are mails for them, and closed when this iterator ends or is closed. Closing
        it breaks off the mails in flight; a caller that wants all outcomes lets ``messages`` end instead. If pulling
        from ``messages`` raises, the outcomes of the mails in flight come first, then the error. ``commit_intent``
        needs a ``window`` of 1.
        """
        loop = SendLoop(self, permit, commit_intent)
        try:
            yield from loop.run(messages)
        finally:
            loop.close()


@dataclass(frozen=True)
class SmtpTransports:
    """The port ``Transports`` over SMTP: several relays in one event loop."""

    relays: Sequence[TransportConfig]

    def send(
        self,
        streams: Sequence[RelayStream],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None,
    ) -> Generator[Outcome | None, None, None]:
        """Send the messages of each stream to its relay. All else is as in ``SmtpTransport.send``."""
        loops = SendLoops(self.relays, streams, commit_intent)
        try:
            yield from loops.run()
        finally:
            loops.close()
