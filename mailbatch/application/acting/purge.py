"""Delete what is finished and old."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.stores import Interventions
    from mailbatch.domain.change import Purged

PAGE = 200
"""Reservations deleted in one transaction: short enough that no lane has to wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """Delete finished reservations; what is pending, being sent or in doubt stays, however old it is."""

    interventions: Interventions
    page: int = PAGE

    def __call__(self, older_than: float, go_on: Callable[[int], bool] = lambda _deleted: True) -> int:
        """Delete what was finished more than ``older_than`` seconds ago; answer how many there were.

        ``go_on`` is asked after each page, with the number deleted so far, whether there shall be another. Reports of
        runs that ended as long ago go too: their errors hold addresses.
        """
        self.interventions.purge_runs(older_than)
        deleted = 0
        page: Purged | None = None
        while page is None or page.place is not None:
            page = self.interventions.purge(older_than, self.page, page)
            deleted += page.count
            if page.count and not go_on(deleted):
                break
        return deleted
