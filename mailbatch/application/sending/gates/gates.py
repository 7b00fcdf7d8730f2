"""All gates of a lane, asked one after the other, and the moments for which the lane waits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.domain.settlement import held_back

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from mailbatch.application.ports.gating import Gate
    from mailbatch.application.ports.system import Clock
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.gate import NotBefore
    from mailbatch.domain.message import Claim
    from mailbatch.domain.settlement import Settlement

VALID_FOR = 0.5
"""Seconds after which the gates are asked again for what is left of a group."""
LONGEST_SLEEP = 0.5
"""Seconds after which a lane that waits for a mail to come due looks whether it must stop."""


@dataclass(slots=True, kw_only=True)
class Gates:
    """Asks every gate. A mail waits for the first that holds it back. The cheapest gate stands first.

    ``now`` returns the time by which gates open and close; ``next_tick`` the first tick behind a time. A mail that is
    put back until then belongs to this run: the lane waits for it.
    """

    gates: Sequence[Gate]
    clock: Clock
    now: Callable[[], datetime]
    next_tick: Callable[[datetime], datetime]
    _wakes: set[int] = field(default_factory=set, init=False)
    """Seconds since 1970 at which mails that were put back come due. Full seconds, so that there are few."""

    def ask(self, mails: Sequence[ClaimedMail]) -> dict[Claim, Settlement]:
        """Return those of ``mails`` that are held back, each with what is written for it. Raises ``StoreError``."""
        held: dict[Claim, NotBefore] = {}
        now = self.now()
        for gate in self.gates:
            held |= gate.ask([mail for mail in mails if mail.claim not in held] if held else mails, now)
        return self._put_back(held, now) if held else {}

    def is_old(self, asked_at: float) -> bool:
        """Return whether an answer of ``asked_at``, by the clock, is too old. Each relay of a lane has its own."""
        return self.clock.monotonic() - asked_at > VALID_FOR

    def reopen(self, limit: int) -> int:
        """Make up to ``limit`` mails of each opened gate due again. Return the largest number of one gate."""
        return max((gate.reopen(limit) for gate in self.gates), default=0)

    def wait(self, must_stop: Callable[[], bool]) -> bool:
        """Wait until the next mail comes due that was put back in this run.

        Return False if there is none, or if the run must stop.
        """
        while self._wakes and not must_stop():
            now = self.now().timestamp()
            if (seconds := min(self._wakes) - now) <= 0:
                self._wakes = {moment for moment in self._wakes if moment > now}
                return True
            self.clock.sleep(min(seconds, LONGEST_SLEEP))
        return False

    def _put_back(self, held: dict[Claim, NotBefore], now: datetime) -> dict[Claim, Settlement]:
        tick = self.next_tick(now)
        found: dict[Claim, Settlement] = {}
        for claim, answer in held.items():
            soon = answer.at is not None and answer.at <= tick
            if answer.at is not None and soon:
                self._wakes.add(math.ceil(answer.at.timestamp()))
            found[claim] = held_back(claim, answer, now, soon=soon)
        return found


def first_that_holds(gates: Sequence[Gate], mail: ClaimedMail, now: datetime) -> NotBefore | None:
    """Return what the first gate says that would hold ``mail`` back at ``now``; None if it may go."""
    answers = (gate.ask([mail], now).get(mail.claim) for gate in gates)
    return next((answer for answer in answers if answer is not None), None)
