"""Ports of a run: its rows, its helpers, its lock, its pause, its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from mailbatch.domain.lock import Holder
    from mailbatch.domain.run import Counts, ItemError, OpenRun, Pause, RunOutcome, RunReport, Trigger


class StopToken(Protocol):
    """Says whether the run must stop, and why. Cheap enough to be asked before each mail."""

    def reason(self) -> RunOutcome | None:
        """One of ``STOPPED``, or None to go on. Once it has given a reason it keeps to it."""


class Run(Protocol):
    """A run in progress, as the work that it does sees it."""

    @property
    def id(self) -> UUID:
        """The run's id."""

    @property
    def trigger(self) -> Trigger:
        """Who started it."""

    @property
    def stop(self) -> StopToken:
        """What is asked before each item."""

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` every so many seconds, in a thread of its own, until the run ends."""

    def count(self, counts: Counts) -> None:
        """Add to what the run has done."""

    def set_helper_counts(self, counts: Counts) -> None:
        """Replace the counts of this run's other lanes by ``counts``, their total so far."""

    def item_error(self, error: ItemError) -> None:
        """Collect what went wrong with an item; it never stops the others."""


class Runs(Protocol):
    """The rows that tell of runs: ``batch_runs`` and ``run_errors``."""

    def open(self, run_id: UUID, job: str, trigger: Trigger, bound: int) -> None:
        """Write the row of a run that begins now."""

    def beat(self, run_id: UUID, counts: Counts) -> None:
        """Say that the run lives, and how far it is."""

    def errors(self, run_id: UUID, errors: Sequence[ItemError]) -> None:
        """Append item errors, in full."""

    def close(self, job: str, report: RunReport, error: str | None) -> None:
        """Write how the run ended; an ``error`` of the run itself stands beside its items' errors."""

    def open_run(self, job: str) -> OpenRun | None:
        """The newest run of ``job`` that has not ended."""

    def close_dead(self, job: str, silent: float, remaining: Callable[[], int] = lambda: 0) -> list[UUID]:
        """Close, as failed, runs of ``job`` without a heartbeat for ``silent`` seconds.

        ``remaining`` counts what they left undone; it is asked only if there are any.
        """

    def first_errors(self, run_id: UUID, limit: int) -> list[ItemError]:
        """The first item errors of a run, of all its lanes, by index."""

    def outcome_of(self, run_id: UUID) -> RunOutcome | None:
        """How a run ended, or None."""

    def tell_to_stop(self, run_id: UUID) -> bool:
        """Tell a run that goes on to stop between two items, all its lanes; False if it has ended, or was told before.

        It ends as ``revoked``.
        """

    def told_to_stop(self, run_id: UUID) -> RunOutcome | None:
        """The reason for which somebody told the run to stop; None if nobody has."""


class Lanes(Protocol):
    """The helpers of a run. What they do is counted in the transaction that settles it: see ``Backlog.settle``."""

    def join(self, run_id: UUID, lane: int) -> bool:
        """Take part in a run that goes on; False if it has ended, was told to stop, or that lane is taken."""

    def beat(self, run_id: UUID, lane: int) -> None:
        """Say that the lane lives."""

    def leave(self, run_id: UUID, lane: int, error: str | None) -> None:
        """Say that the lane has ended, and whether something made it."""

    def living(self, run_id: UUID, silent: float) -> int:
        """How many helpers have not left, and were heard of within ``silent`` seconds."""

    def seal(self, run_id: UUID, silent: float) -> bool:
        """Let nobody join any more; False, and nothing is changed, while a helper is ``living``."""

    def counts(self, run_id: UUID) -> Counts:
        """What all helpers have settled so far."""

    def tell_to_stop(self, run_id: UUID, reason: RunOutcome) -> None:
        """Tell every lane of the run to stop; the first reason stays."""

    def must_stop(self, run_id: UUID, silent: float) -> RunOutcome | None:
        """Why a helper must stop: it was told to, the run has ended, or lane 0 was silent for ``silent`` seconds."""


class PauseStore(Protocol):
    """The pause of a job; it survives restarts."""

    def paused(self, job: str) -> Pause:
        """What is suspended now."""

    def set(self, job: str, pause: Pause) -> None:
        """Suspend, or go on."""


class Lock(Protocol):
    """Mutual exclusion with an owner token, a time to live and renewal."""

    def acquire(self) -> bool:
        """Take the lock if it is free. Raises ``LockUnavailable`` when that cannot be found out."""

    def renew(self) -> None:
        """Prolong it; from then on ``held`` tells the truth for another time to live."""

    def held(self) -> bool:
        """Whether it is surely still ours. Asks nobody."""

    def release(self) -> None:
        """Give it back if it is still ours; never raises."""


class LockObserver(Protocol):
    """Knows who holds the lock of a job."""

    @property
    def key(self) -> str:
        """The Redis key of the lock, for a person who must delete it."""

    def peek(self) -> float | None:
        """Return for how many seconds a run on our database still holds the lock; None if none does.

        Raises ``LockUnavailable``.
        """

    def holder(self) -> Holder | None:
        """Return who holds the lock, on whatever database; None if nobody does. Raises ``LockUnavailable``."""


class StatusBoard(Protocol):
    """Where a running job shows its progress; what is missing is idle."""

    def put(self, job: str, progress: Mapping[str, Any]) -> None:
        """Show ``progress``; never raises: a run does not end because nobody can watch it."""

    def get(self, job: str) -> dict[str, Any] | None:
        """What ``job`` shows, or None."""
