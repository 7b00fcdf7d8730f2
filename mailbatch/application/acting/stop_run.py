"""Tells one run to stop between two items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.errors import NotFound, StateConflict
from mailbatch.domain.run import DEAD_AFTER

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.acting.audit import Audit
    from mailbatch.application.ports.reports import Reports
    from mailbatch.application.ports.runs import Runs


@dataclass(frozen=True, slots=True)
class Stopping:
    """A run that was told to stop. ``alive`` is false if its process is silent: it died, or hangs."""

    run_id: UUID
    job: str
    alive: bool

    @property
    def sentence(self) -> str:
        """What happens next, as one sentence."""
        if self.alive:
            return f"run {self.run_id} of {self.job} was told to stop: it ends between two items, as revoked"
        return (
            f"run {self.run_id} of {self.job} was told to stop, but shows no sign of life: its process died, or hangs; "
            "the next run takes over"
        )


@dataclass(frozen=True, slots=True)
class StopRun:
    """Tells a run of any job to stop between two items. It needs no Redis and no Celery."""

    runs: Runs
    reports: Reports
    audit: Audit

    def __call__(self, actor: str, run_id: UUID) -> Stopping:
        """Tell the run to stop, and record that; a second call changes nothing.

        Raises:
            NotFound: if there is no such run.
            StateConflict: if it has ended.
            StoreError: if the database cannot be asked.
        """
        with self.audit.around(actor, "stop", {"run": str(run_id)}):
            return self._stop(run_id)

    def _stop(self, run_id: UUID) -> Stopping:
        requested = self.runs.request_stop(run_id)
        run = self.reports.run(run_id)
        if run is None:
            raise NotFound(f"no run {run_id}; `mailbatch runs` lists them")
        if run.outcome is not None and not requested:
            raise StateConflict(f"run {run_id} has ended: {run.outcome}")
        newest = self.runs.open_run(run.job)
        silent = newest is not None and newest.run_id == run_id and newest.silent > DEAD_AFTER
        return Stopping(run_id, run.job, alive=not silent)
