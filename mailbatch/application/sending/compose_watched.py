"""Compose under the eyes of a watchdog, which knows what mail is composed when its process has to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.errors import CannotCompose

if TYPE_CHECKING:
    from mailbatch.application.ports.sending import Composer, Watchdog
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.message import Message


@dataclass(frozen=True, slots=True)
class ComposeWatched:
    """Makes messages as ``compose`` does (the port ``Composer``)."""

    compose: Composer
    watchdog: Watchdog

    def __call__(self, claimed: ClaimedMail) -> Message:
        """Return the message. Raises ``CannotCompose`` at once if the mail ended a process before."""
        if why := self.watchdog.condemned(claimed.claim):
            raise CannotCompose([why])
        self.watchdog.composing(claimed.claim)
        try:
            return self.compose(claimed)
        finally:
            self.watchdog.composed()
