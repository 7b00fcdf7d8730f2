"""Port to the reports of runs and to counts over all reservations. Each method may raise ``StoreError``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.domain.census import Census, ErrorGroup, Job
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.figures import Figures
    from mailbatch.domain.health import HealthSnapshot
    from mailbatch.domain.rows import DuplicateRow, LaneRow, ReservationRow, RunPlace, RunRow
    from mailbatch.domain.run import ItemError


class Reports(Protocol):
    """What is known of runs and of the backlog as a whole."""

    def census(self) -> Census:
        """Count. Exact at least up to 10,000 reservations in each state."""

    def runs(self, job: str, limit: int, before: RunPlace | None = None, *, quiet: bool = True) -> list[RunRow]:
        """Return the last ``limit`` runs of ``job``, or those that began ``before``, newest first.

        Without ``quiet`` only those that are worth a look: they dealt with a mail, left some, go on, or went wrong.
        """

    def run(self, run_id: UUID) -> RunRow | None:
        """Return one run; None if there is none."""

    def lane(self, run_id: UUID, lane: int) -> LaneRow | None:
        """Return one helper of a run; None if there is none."""

    def errors(self, run_id: UUID, after: int = 0) -> Iterator[ItemError]:
        """The errors of a run's items with indexes above ``after``, in their order, in full; read page by page."""

    def error_groups(self, run_id: UUID) -> list[ErrorGroup]:
        """The tries of a run that were not accepted, by what was said to them; the most frequent first."""

    def jobs(self) -> list[Job]:
        """Every job that has run, that a beat starts or that somebody has paused, by name."""


class Measures(Protocol):
    """Reads the figures. Every read is bounded: a table of many millions must not make a scrape wait."""

    def figures(self) -> Figures:
        """The figures now. May raise ``StoreError``."""


class HealthQuery(Protocol):
    """Feels for signs of life."""

    def health(self, job: str, ended_for: float) -> HealthSnapshot:
        """Those of ``job``; counts leases that have been over for ``ended_for`` seconds. May raise ``StoreError``."""


class Queue(Protocol):
    """Knows who goes first."""

    def ahead(self, row: ReservationRow, most: int) -> int:
        """How many due reservations go before ``row``, counted up to ``most``."""


class Upcoming(Protocol):
    """What is to be sent, in the order in which a run would; nothing is claimed. May raise ``StoreError``."""

    def count(self, by: datetime | None) -> tuple[int, bool]:
        """How many are due by then (None: now), and whether the count is exact: it is up to its cap."""

    def mails(self, by: datetime | None, limit: int) -> Iterator[ClaimedMail]:
        """The first ``limit`` of them, read page by page."""


class Duplicates(Protocol):
    """Knows which mails went out again after a try that ended without a verdict. May raise ``StoreError``."""

    def resent(self, since: datetime | None, limit: int) -> Sequence[DuplicateRow]:
        """Return up to ``limit`` of them, the last first; each once, by its last attempt without a verdict.

        ``since``: when that attempt ended at the earliest.
        """
