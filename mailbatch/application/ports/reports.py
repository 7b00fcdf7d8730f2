"""Port to the reports of runs and to counts over all reservations. Each method may raise ``StoreError``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from mailbatch.application.ports.stores import Row
    from mailbatch.domain.census import Census, ErrorGroup, Job
    from mailbatch.domain.run import ItemError


class Reports(Protocol):
    """What is known of runs and of the backlog as a whole."""

    def census(self) -> Census:
        """Count. Exact at least up to 10,000 reservations in each state."""

    def runs(self, job: str, limit: int, before: Row | None = None, *, quiet: bool = True) -> list[Row]:
        """The last ``limit`` runs of ``job``, newest first; ``before``: those older than this row.

        ``silent`` of each row: seconds since its last sign of life. Without ``quiet`` only those that are worth a look:
        they dealt with a mail, left some, go on, or went wrong.
        """

    def run(self, run_id: UUID) -> Row | None:
        """One run, with ``silent`` as above."""

    def lane(self, run_id: UUID, lane: int) -> Row | None:
        """One helper of a run."""

    def errors(self, run_id: UUID, after: int = 0) -> Iterator[ItemError]:
        """The errors of a run's items with indexes above ``after``, in their order, in full; read page by page."""

    def error_groups(self, run_id: UUID) -> list[ErrorGroup]:
        """The tries of a run that were not accepted, by what was said to them; the most frequent first."""

    def jobs(self) -> list[Job]:
        """Every job that has run, that a beat starts or that somebody has paused, by name."""
