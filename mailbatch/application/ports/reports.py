"""Ports of the screens: runs, counts, signs of life, what is sent next. Each method may raise ``StoreError``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.domain.census import Census, ErrorGroup, ScheduledJob
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.figures import Figures
    from mailbatch.domain.health import HealthSnapshot
    from mailbatch.domain.rows import DuplicateRow, LaneRow, ReservationRow, RunPlace, RunRow
    from mailbatch.domain.run import ItemError


class Reports(Protocol):
    """Reads runs, their errors, and counts over all reservations."""

    def census(self) -> Census:
        """Count the reservations. The counts are exact at least up to 10,000 in each state."""

    def runs(self, job: str, limit: int, before: RunPlace | None = None, *, quiet: bool = True) -> list[RunRow]:
        """Return the last ``limit`` runs of ``job``, or those that began ``before``, newest first.

        ``quiet=False`` leaves out runs that had nothing to do: they ended well, dealt with no mail and left none.
        """

    def run(self, run_id: UUID) -> RunRow | None:
        """Return one run; None if there is none."""

    def lane(self, run_id: UUID, lane: int) -> LaneRow | None:
        """Return one helper of a run; None if there is none."""

    def errors(self, run_id: UUID, after: int = 0) -> Iterator[ItemError]:
        """Yield the item errors of a run behind the index ``after``, in order and in full, read page by page."""

    def error_groups(self, run_id: UUID) -> list[ErrorGroup]:
        """Return the attempts of a run that were not accepted, by their replies, the most frequent first."""

    def jobs(self) -> list[ScheduledJob]:
        """Return every job that has run, is scheduled or is paused, by name."""


class Measures(Protocol):
    """Reads the figures of a monitoring system. Every read is bounded, so a scrape never waits for large tables."""

    def figures(self) -> Figures:
        """Return the figures now."""


class HealthQuery(Protocol):
    """Reads the signs of life of a job and its backlog."""

    def health(self, job: str, ended_for: float) -> HealthSnapshot:
        """Return those of ``job``. It counts leases that ended more than ``ended_for`` seconds ago."""


class Upcoming(Protocol):
    """Reads what a run would send, in its order. Nothing is claimed."""

    def count(self, by: datetime | None) -> tuple[int, bool]:
        """Count the mails that are due at ``by`` (None: now); return also whether the count is exact."""

    def mails(self, by: datetime | None, limit: int) -> Iterator[ClaimedMail]:
        """Yield the first ``limit`` of them. They are read page by page."""

    def ahead(self, row: ReservationRow, most: int) -> int:
        """Count the due reservations that are sent before ``row``, up to ``most``."""


class Duplicates(Protocol):
    """Knows which mails were sent again after an attempt that ended without a verdict."""

    def resent(self, since: datetime | None, limit: int) -> Sequence[DuplicateRow]:
        """Return up to ``limit`` of them, the last first; each once, by its last attempt without a verdict.

        ``since``: when that attempt ended at the earliest.
        """
