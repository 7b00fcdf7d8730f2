"""Composes under a watchdog, which knows the mail that is being composed when it ends the process."""

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
    """The port ``Composer``: composes as ``compose`` does."""

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
