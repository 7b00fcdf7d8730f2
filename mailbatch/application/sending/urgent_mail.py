"""Decides whether urgent mail starts a run now, although no tick has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.circuit import Step
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.run import DEAD_AFTER, Pause, RunOutcome, Trigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.application.ports.runs import PauseStore, Runs
    from mailbatch.application.ports.sending import Backlog, Circuits
    from mailbatch.domain.run import NewestRun

REST = 30.0
"""Seconds for which urgent mail starts no run after one that failed or was stopped."""
REST_IN_VAIN = 5.0
"""The same after a run for urgent mail that could claim none, for example because somebody has its row locked."""
_RESTS_AFTER = frozenset({RunOutcome.FAILED, RunOutcome.REVOKED, RunOutcome.TIMED_OUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class UrgentMail:
    """The reservations of at least ``priority`` that are due and that no run has claimed yet.

    A mail that a run has claimed once waits for the next tick like all others. So mail that a run cannot send, for
    whatever reason, never starts runs again and again. ``relays``: those to which runs send.

    Each method may raise ``StoreError``.
    """

    backlog: Backlog
    pause_store: PauseStore
    runs: Runs
    circuits: Circuits
    relays: Sequence[str]
    priority: int

    def waits(self) -> bool:
        """Return whether there is such mail. It is cheap enough to be called every second."""
        return self.backlog.has_urgent(self.priority)

    def newest_run(self) -> NewestRun | None:
        """Return the run that began last."""
        return self.runs.newest(SEND_ALL)

    def may_start(self, newest: NewestRun | None) -> bool:
        """Return whether nothing holds a run back: a run in progress, a rest, a pause, or the circuits of all relays.

        Without this a run would be called every second in vain. The lock decides in the end.
        """
        if newest is not None and _holds_back(newest):
            return False
        return self.pause_store.paused(SEND_ALL) is Pause.NONE and any(
            self.circuits.look(relay).step(by_hand=False) is not Step.LEAVE for relay in self.relays
        )


def _holds_back(newest: NewestRun) -> bool:
    if newest.outcome is None:
        return newest.silent < DEAD_AFTER
    if newest.outcome in _RESTS_AFTER:
        return newest.silent < REST
    return newest.trigger is Trigger.URGENT and not newest.claimed and newest.silent < REST_IN_VAIN
