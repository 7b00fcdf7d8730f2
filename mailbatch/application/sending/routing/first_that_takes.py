"""Sends single mails past the backlog, each by the first relay of its route that takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.application.ports.sending import Nap
from mailbatch.domain.reply_kinds import is_of_the_relay

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from mailbatch.application.ports.sending import Transport
    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome


@dataclass(frozen=True, slots=True)
class FirstThatTakes:
    """A transport over several. ``ways`` makes the transports that may take a message, the first choice first.

    It is for single mails: one is sent after the other.
    """

    ways: Callable[[Message], Sequence[Callable[[], Transport]]]

    @property
    def capacity(self) -> int:
        """It does not grow."""
        return 0

    def send(
        self,
        messages: Iterable[Message | Nap],
        permit: Callable[[], bool],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None,
    ) -> Generator[Outcome | None, None, None]:
        """Send each message; a relay that takes it for nobody for reasons of its own makes way for the next."""
        for message in messages:
            if isinstance(message, Nap):
                continue
            outcome = None
            for way in self.ways(message):
                [outcome] = [one for one in way().send([message], permit, commit_intent) if one is not None]
                if not is_of_the_relay(outcome):
                    break
            yield outcome
