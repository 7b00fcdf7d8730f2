"""Send what is due: claim, compose, transmit, settle. The use case; ``lane`` is how it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.application.sending.lane import Lane
from mailbatch.domain.run import Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.sending import Backlog, Composer, Slots, Transport, Watchdog
    from mailbatch.application.ports.system import Clock
    from mailbatch.application.sending.circuit_breaker import CircuitBreaker
    from mailbatch.domain.lifecycle import OnDoubt
    from mailbatch.domain.retry import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class SendDue:
    """One lane's work in a run.

    ``lease`` in seconds. ``strict``: the intent to send is committed just before the end of each body, and not with the
    claim. ``relay_faults`` in a row end the run, fewer once they last for ``relay_patience`` seconds.
    """

    backlog: Backlog
    compose: Composer
    transport: Transport
    clock: Clock
    jitter: Callable[[], float]
    retry: RetryPolicy
    on_doubt: OnDoubt
    group_size: int
    page_size: int
    lease: float
    strict: bool = False
    relay_faults: int = 16
    relay_patience: float = 5.0
    guard: CircuitBreaker | None = None
    slots: Slots | None = None
    watchdog: Watchdog | None = None

    def __call__(self, run: Run, lane: int = 0) -> None:
        """Send until nothing is due or the run must stop.

        Raises:
            RunFailed: the backlog cannot be read, or the relay stays away; what was answered is settled all the same.
        """
        Lane(self, run, lane).work()

    def probe(self, run: Run) -> None:
        """Send one mail ahead of all others if the relay failed before, so that not all of them find out.

        Raises:
            RunFailed: the relay is to be left alone for now, or it has failed again.
        """
        by_hand = run.trigger is not Trigger.BEAT
        if self.guard is None or (circuit := self.guard.to_probe(by_hand=by_hand)) is None:
            return
        lane = Lane(self, run, 0, probed=circuit)
        lane.work()
        if lane.judge.answered:
            self.guard.probed()
