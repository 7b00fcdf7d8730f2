"""Deletes old finished reservations, the reports of old runs, and files that no reservation names any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.stores import Files, Interventions
    from mailbatch.domain.change import Purged


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """Deletes finished reservations. Pending ones, those being sent and those in doubt stay, however old."""

    interventions: Interventions
    files: Files

    def __call__(self, older_than: float, go_on: Callable[[int], bool] = lambda _deleted: True) -> int:
        """Delete those finished more than ``older_than`` seconds ago; return how many there were.

        ``go_on`` is called after each portion with the number deleted so far; if it returns false, the purge stops. The
        reports of runs that ended as long ago are deleted too: their errors contain addresses. At the end files that
        nobody needs are deleted. Raises ``StoreError``.
        """
        self.interventions.purge_runs(older_than)
        deleted = 0
        portion: Purged | None = None
        while portion is None or portion.place is not None:
            portion = self.interventions.purge(older_than, portion)
            deleted += portion.count
            if portion.count and not go_on(deleted):
                return deleted
        self.files.purge()
        return deleted
