"""Ports of a run: its rows, its helpers, its lock, its pause, and the board that shows its progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from mailbatch.domain.lock import Holder
    from mailbatch.domain.run import Counts, ItemError, NewestRun, OpenRun, Pause, RunOutcome, RunReport, Trigger


class StopToken(Protocol):
    """Says whether the run must stop, and why. It is cheap enough to be asked before each mail."""

    def reason(self) -> RunOutcome | None:
        """Return one of ``STOPPED``, or None to go on. Once it has returned a reason it keeps to it."""


class Run(Protocol):
    """A run in progress, as seen by the work that it does."""

    @property
    def id(self) -> UUID:
        """The run's id."""

    @property
    def trigger(self) -> Trigger:
        """How it was started."""

    @property
    def stop(self) -> StopToken:
        """Says before each item whether to go on."""

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` every so many seconds, in a thread of its own, until the run ends."""

    def count(self, counts: Counts) -> None:
        """Add ``counts`` to what the run has done."""

    def set_helper_counts(self, counts: Counts) -> None:
        """Replace the counts of this run's other lanes by ``counts``, their total so far."""

    def item_error(self, error: ItemError) -> None:
        """Record what went wrong with one item. It never stops the others."""

    @property
    def fault(self) -> str | None:
        """The first fault that was noted."""

    def note_fault(self, why: str) -> None:
        """Note that items wait for something that all of them share: ``why``, in one line.

        The others go on; then the run ends as failed, and its report says the first fault.
        """

    def raise_bound(self, mails: int) -> None:
        """Add ``mails`` to how many a crash could leave in doubt. When this returns, it is written.

        Raises ``StoreError``.
        """


class Runs(Protocol):
    """The rows of runs and of their errors: ``batch_runs`` and ``run_errors``. Each method may raise ``StoreError``."""

    def open(self, run_id: UUID, job: str, trigger: Trigger, bound: int) -> None:
        """Write the row of a run that begins now."""

    def beat(self, run_id: UUID, counts: Counts) -> None:
        """Write a heartbeat, and how far the run is."""

    def errors(self, run_id: UUID, errors: Sequence[ItemError]) -> None:
        """Append item errors, in full."""

    def raise_bound(self, run_id: UUID, mails: int) -> None:
        """Add ``mails`` to the bound of a run that goes on."""

    def close(self, job: str, report: RunReport, error: str | None) -> int | None:
        """Write how the run ended. ``error``: what was wrong with the run itself, beside the errors of its items.

        Return the bound that the row has, whatever ``report`` says; None if there is no row.
        """

    def open_run(self, job: str) -> OpenRun | None:
        """Return the newest run of ``job`` that has not ended; None if there is none."""

    def close_dead(self, job: str, silent: float, remaining: Callable[[], int] = lambda: 0) -> list[UUID]:
        """Close, as failed, runs of ``job`` without a heartbeat for ``silent`` seconds.

        ``remaining`` counts what they left undone. It is called only if there are such runs. Returns their ids.
        """

    def first_errors(self, run_id: UUID, limit: int) -> list[ItemError]:
        """Return up to ``limit`` item errors of a run, of all its lanes, by their index."""

    def outcome_of(self, run_id: UUID) -> RunOutcome | None:
        """Return how a run ended; None if it goes on, or if there is none."""

    def newest(self, job: str) -> NewestRun | None:
        """Return the run of ``job`` that began last, whether it has ended or not; None if there is none."""

    def request_stop(self, run_id: UUID) -> bool:
        """Request that all lanes of a run stop between two items. It then ends as ``revoked``.

        Returns False, and changes nothing, if the run has ended, or if its stop was requested before.
        """

    def stop_request(self, run_id: UUID) -> RunOutcome | None:
        """Return the reason for which the run was requested to stop; None if it was not."""


class Lanes(Protocol):
    """The rows of a run's helpers. Their mails are counted by the transaction that settles them: ``Backlog.settle``."""

    def join(self, run_id: UUID, lane: int) -> bool:
        """Take part in a run. Returns False if it has ended, must stop, or has that lane already."""

    def beat(self, run_id: UUID, lane: int) -> None:
        """Write a heartbeat of the lane."""

    def leave(self, run_id: UUID, lane: int, error: str | None) -> None:
        """Write that the lane has ended, and the ``error`` that ended it, if one did."""

    def living(self, run_id: UUID, silent: float) -> int:
        """Count the helpers that have not left and have a heartbeat within the last ``silent`` seconds."""

    def seal(self, run_id: UUID, silent: float) -> bool:
        """Let no lane join any more. Returns False, and changes nothing, while a helper is ``living``."""

    def counts(self, run_id: UUID) -> Counts:
        """Return what all helpers have settled so far."""

    def request_stop(self, run_id: UUID, reason: RunOutcome) -> None:
        """Request that every lane of the run stops. The first reason stays."""

    def must_stop(self, run_id: UUID, silent: float) -> RunOutcome | None:
        """Return why a helper must stop; None if it need not.

        It must if this was requested, if the run has ended, or if lane 0 has been silent for ``silent`` seconds.
        """


class PauseStore(Protocol):
    """The pause of a job. It survives restarts."""

    def paused(self, job: str) -> Pause:
        """Return what is suspended now."""

    def set(self, job: str, pause: Pause) -> None:
        """Suspend the job, or let it go on."""


class Lock(Protocol):
    """Mutual exclusion with an owner token, a time to live and renewal."""

    def acquire(self) -> bool:
        """Take the lock if it is free; return whether it was. Raises ``LockUnavailable`` if Redis does not answer."""

    def renew(self) -> None:
        """Prolong the lock for another time to live."""

    def held(self) -> bool:
        """Return whether the lock is certainly still ours, by our own clock. Asks no server."""

    def release(self) -> None:
        """Give the lock back if it is still ours. Never raises."""


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
    """Shows the progress of running jobs. A job that is not on it is idle."""

    def put(self, job: str, progress: Mapping[str, Any]) -> None:
        """Show ``progress``. Never raises: a run goes on although its progress cannot be shown."""

    def get(self, job: str) -> dict[str, Any] | None:
        """Return the progress of ``job``; None if it shows none."""
