"""Ask what there is: reservations, runs and their errors, and how things stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailbatch.application.operating_ports import LISTED_BY
from mailbatch.domain.errors import NotFound
from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.application.operating_ports import Census, Reports, Reservations, Row, Selection
    from mailbatch.application.ports import Driver, StatusBoard, Switch
    from mailbatch.application.watch import Finding, Watch
    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.run import ItemError

_LIGHT_PAGE = 500
_FULL_PAGE = 25
"""Rows that are read at once with their bodies: each may have some megabytes."""


@dataclass(frozen=True, slots=True)
class ListReservations:
    """List reservations, newest first."""

    reservations: Reservations

    def __call__(self, which: Selection, limit: int, columns: Collection[str] | None = None) -> Iterator[Row]:
        """Yield up to ``limit`` rows with ``columns`` (None: all), read page by page, so that memory stays flat."""
        after: Row | None = None
        page = _FULL_PAGE if columns is None else _LIGHT_PAGE
        if columns is not None:
            columns = {*LISTED_BY, *columns}
        while limit > 0:
            rows = self.reservations.select(which, columns, after, min(page, limit))
            yield from rows
            limit -= len(rows)
            if len(rows) < page:
                return
            after = rows[-1]


@dataclass(frozen=True, slots=True)
class ShowReservation:
    """Show all that is known of one reservation."""

    reservations: Reservations

    def __call__(self, reservation_id: UUID) -> tuple[Row, list[Row]]:
        """Answer the reservation and its tries, oldest first. Raises ``NotFound``."""
        row = self.reservations.get(reservation_id)
        if row is None:
            raise NotFound(f"no reservation {reservation_id}")
        return row, self.reservations.attempts(reservation_id)


@dataclass(frozen=True, slots=True)
class ListRuns:
    """List the runs of a job, newest first."""

    reports: Reports

    def __call__(self, job: str, limit: int) -> list[Row]:
        """Answer the last ``limit`` runs of ``job``."""
        return self.reports.runs(job, limit)


@dataclass(frozen=True, slots=True)
class ShowRun:
    """Show one run and the errors of its items, in full."""

    reports: Reports

    def __call__(self, run_id: UUID) -> tuple[Row, Iterator[ItemError]]:
        """Answer the run's row and its errors. Raises ``NotFound``."""
        row = self.reports.run(run_id)
        if row is None:
            raise NotFound(f"no run {run_id}; `mailbatch runs` lists them")
        return row, self.reports.errors(run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a job and its backlog stand.

    ``unanswered``: seconds for which a run has had mails under way and nobody was answered; None if there is none.
    ``next_run_at`` and ``next_run_in`` (seconds, negative when it is over) are None while the ticks are paused.
    """

    pause: Pause
    running: bool
    progress: Mapping[str, Any] | None
    next_run_at: datetime | None
    next_run_in: float | None
    last_run: Row | None
    census: Census
    relay: Circuit
    warnings: Sequence[Finding]
    unanswered: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowStanding:
    """Tell how a job and its backlog stand. Without ``driver`` Redis is asked for nothing."""

    reports: Reports
    switch: Switch
    driver: Driver | None
    board: StatusBoard
    watch: Watch

    def __call__(self, job: str) -> Standing:
        """Answer how ``job`` stands. Raises ``LockUnavailable`` if Redis cannot be asked."""
        if self.driver is not None:
            self.driver.peek()
        look = self.watch.look(job)
        pause = self.switch.paused(job)
        ticks = pause is Pause.NONE
        ended = next((run for run in self.reports.runs(job, 5) if run["outcome"] is not None), None)
        return Standing(
            pause=pause,
            running=look.running,
            progress=self.board.get(job) if look.running and self.driver is not None else None,
            next_run_at=self.reports.next_tick_at(job) if ticks else None,
            next_run_in=look.next_tick if ticks else None,
            last_run=ended,
            census=self.reports.census(),
            relay=self.watch.circuits.look(self.watch.relay),
            warnings=look.findings,
            unanswered=look.unanswered,
        )
