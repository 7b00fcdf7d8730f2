"""Port to the reports of runs and to counts over all reservations. Each method may raise ``StoreError``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.application.ports.stores import Row
    from mailbatch.domain.census import Census, ErrorGroup, Job
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.figures import Figures
    from mailbatch.domain.health import HealthSnapshot
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

    def ahead(self, row: Row, most: int) -> int:
        """How many due reservations go before ``row``, counted up to ``most``."""


class Upcoming(Protocol):
    """What is to be sent, in the order in which a run would; nothing is claimed. May raise ``StoreError``."""

    def count(self, by: datetime | None) -> tuple[int, bool]:
        """How many are due by then (None: now), and whether the count is exact: it is up to its cap."""

    def mails(self, by: datetime | None, limit: int) -> Iterator[ClaimedMail]:
        """The first ``limit`` of them, read page by page."""


class Duplicates(Protocol):
    """Knows which mails went out again after a try that ended without a verdict. May raise ``StoreError``."""

    def resent(self, since: datetime | None, limit: int) -> Sequence[Row]:
        """Those whose doubtful try ended at or after ``since``, the last first; each once, by the last such try.

        A row has ``reservation_id``, ``recipients``, ``message_id``, ``doubt_at``, ``doubt_relay``, ``doubt_run_id``,
        ``sent_at`` (when it went out again, with a verdict or without), ``relay``, ``reply_text`` and ``run_id``.
        """
