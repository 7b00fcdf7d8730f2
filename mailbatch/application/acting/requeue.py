"""Send reservations back to pending: what failed, what is in doubt, and what was cancelled by mistake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.application.acting.bulk import CAP, Preview
from mailbatch.domain.errors import NotFound, StateConflict
from mailbatch.domain.reservation import REQUEUABLE

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.ports.reports import Reports
    from mailbatch.application.ports.stores import Interventions
    from mailbatch.domain.change import Changed
    from mailbatch.domain.reservation import Status


@dataclass(frozen=True, slots=True)
class RequeueAll:
    """Requeue everything in one state."""

    interventions: Interventions

    def __call__(self, status: Status) -> Changed:
        """Requeue all that are in ``status``. Raises ``StateConflict`` if nothing can be requeued from there."""
        if status not in REQUEUABLE:
            allowed = ", ".join(sorted(s.value for s in REQUEUABLE))
            raise StateConflict(f"{status.value} reservations cannot be requeued, only those that are {allowed}")
        return self.interventions.requeue_all(status)


@dataclass(frozen=True, slots=True)
class RequeueRun:
    """Requeue what one run failed."""

    interventions: Interventions
    reports: Reports

    def __call__(self, run_id: UUID) -> Changed:
        """Requeue those of its errors that are failed now. Raises ``NotFound`` if there was no such run."""
        self._ensure(run_id)
        return self.interventions.requeue_run(run_id)

    def preview(self, run_id: UUID) -> Preview:
        """Say how many they are. Raises ``NotFound`` if there was no such run."""
        self._ensure(run_id)
        found = self.interventions.count_failed(run_id, CAP)
        return Preview(min(found, CAP), exact=found <= CAP)

    def _ensure(self, run_id: UUID) -> None:
        if self.reports.run(run_id) is None:
            raise NotFound(f"no run {run_id}; `mailbatch runs` lists them")
