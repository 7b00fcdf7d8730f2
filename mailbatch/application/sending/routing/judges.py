"""The judges of all relays of a lane, for what concerns all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.claimed import Without

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.application.sending.relay_health.judge import Judge


@dataclass(frozen=True, slots=True)
class Judges:
    """What ``Judge`` is for one relay."""

    judges: Sequence[Judge]

    @property
    def waiting(self) -> int:
        """How many mails wait until it is known what their replies are about."""
        return sum(judge.waiting for judge in self.judges)

    @property
    def without(self) -> Without | None:
        """The groups whose mails are put back in this run, by any relay; None if there are none."""
        found = [judge.without for judge in self.judges if judge.without is not None]
        if not found:
            return None
        return Without(
            frozenset[str]().union(*(one.tags for one in found)),
            frozenset[str]().union(*(one.templates for one in found)),
        )

    @property
    def has_returned(self) -> bool:
        """Whether mails were put back in this pass that may go in another pass of the same run."""
        return any(judge.has_returned for judge in self.judges)

    def begin_pass(self) -> None:
        """A pass through the backlog begins."""
        for judge in self.judges:
            judge.begin_pass()

    def end_pass(self) -> None:
        """Judge what waits, because every mail that was handed over has its outcome."""
        for judge in self.judges:
            judge.end_pass()

    def end(self) -> None:
        """Settle all mails that wait, because no outcome follows for now."""
        for judge in self.judges:
            judge.end()
