"""The way to a relay over several connections: a stream of messages in, a stream of outcomes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.loop import SendLoop
from mailbatch.infrastructure.smtp.transport_config import TransportConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from mailbatch.application.ports.sending import Nap
    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome


@dataclass(frozen=True)
class SmtpTransport(TransportConfig):
    """A ``Transport`` on these terms."""

    def send(
        self,
        messages: Iterable[Message | Nap],
        permit: Callable[[], bool],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None,
    ) -> Generator[Outcome | None, None, None]:
        """Send ``messages``; everything that is asked is asked in the caller's thread.

        Connections open when there is something for them, and close when this iterator ends or is closed. Closing it
        ends dialogues where they stand: who wants all outcomes lets ``messages`` end instead. If pulling ``messages``
        raises, what is in flight comes out first, then the error. ``commit_intent`` goes with ``window`` 1.
        """
        loop = SendLoop(self, permit, commit_intent)
        try:
            yield from loop.run(messages)
        finally:
            loop.close()
