"""Read reservations, runs and their errors, and the status of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mailbatch.domain.errors import NotFound
from mailbatch.domain.rows import AttemptRow, ReservationPlace, ReservationRow, ReservationSummary, RunRow, as_dict
from mailbatch.domain.run import COUNTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from mailbatch.application.looking.job_snapshot import JobSnapshot
    from mailbatch.application.looking.next_run import NextRun
    from mailbatch.application.looking.watch import Watch
    from mailbatch.application.ports.gating import Blocks
    from mailbatch.application.ports.reports import Reports
    from mailbatch.application.ports.runs import StatusBoard
    from mailbatch.application.ports.stores import Reservations
    from mailbatch.domain.census import Census
    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.finding import Finding
    from mailbatch.domain.rows import BlockRow
    from mailbatch.domain.run import ItemError, Pause
    from mailbatch.domain.selection import Selection

R = TypeVar("R", ReservationSummary, ReservationRow)

_LIGHT_PAGE = 500
_FULL_PAGE = 25
"""Rows that are read at once with their bodies: each may have some megabytes."""


@dataclass(frozen=True, slots=True)
class ListReservations:
    """List reservations, newest first."""

    reservations: Reservations

    def __call__(self, which: Selection, limit: int, kind: type[R]) -> Iterator[R]:
        """Yield up to ``limit`` reservations, read as ``kind`` and page by page, so that memory stays flat."""
        after: ReservationPlace | None = None
        page = _FULL_PAGE if kind is ReservationRow else _LIGHT_PAGE
        while limit > 0:
            rows = self.reservations.select(which, kind, after, min(page, limit))
            yield from rows
            limit -= len(rows)
            if len(rows) < page:
                return
            after = ReservationPlace.of(rows[-1])


@dataclass(frozen=True, slots=True)
class ShowReservation:
    """Show all that is known of one reservation."""

    reservations: Reservations

    def __call__(self, reservation_id: UUID) -> tuple[ReservationRow, list[AttemptRow]]:
        """Return the reservation and its attempts, oldest first. Raises ``NotFound``."""
        row = self.reservations.get(reservation_id)
        if row is None:
            raise NotFound(f"no reservation {reservation_id}")
        return row, self.reservations.attempts(reservation_id)


@dataclass(frozen=True, slots=True)
class ShowRun:
    """Show one run and the errors of its items, in full."""

    reports: Reports

    def __call__(self, run_id: UUID) -> tuple[RunRow, Iterator[ItemError]]:
        """Return the run's row and its errors. Raises ``NotFound``."""
        row = self.reports.run(run_id)
        if row is None:
            raise NotFound(f"no run {run_id}; `mailbatch runs` lists them")
        return row, self.reports.errors(run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of the run that goes on. ``counts``: mails by outcome; ``elapsed`` in seconds.

    ``unsent``: mails that are due or under way. ``rate``: mails a second since the run began. ``seconds_left``: until
    its end at that rate. Both are None at the beginning of the run, and while the relay replies to nothing.
    """

    run_id: UUID | None
    trigger: str | None
    counts: Mapping[str, int]
    elapsed: float
    unsent: int
    rate: float | None
    seconds_left: float | None

    @property
    def done(self) -> int:
        """Mails that the run has dealt with."""
        return sum(self.counts.values())

    @property
    def whole(self) -> int:
        """Mails that it has dealt with, and those that are due or under way."""
        return self.done + self.unsent


def progress_of(snapshot: JobSnapshot, run: RunRow | None, shown: Mapping[str, Any] | None, unsent: int) -> Progress:
    """Return the progress of ``run``, which goes on; None if it has only just begun and has no row yet.

    Its row, written every five seconds, knows it; what the board shows of the same run is newer. A run writes its row
    before it shows anything on the board: without a row the board shows an earlier run, which may have been killed.
    """
    source: Mapping[str, Any]
    if shown is not None and run is not None and str(shown.get("run_id")) == str(run.run_id):
        source, elapsed = shown, float(shown.get("elapsed") or 0.0)
    else:
        source, elapsed = as_dict(run) if run is not None else {}, snapshot.health.run_age or 0.0
    counts = {name: int(source.get(name) or 0) for name in COUNTED}
    done = sum(counts.values())
    rate = done / elapsed if done and elapsed > 0 and snapshot.silence is None else None
    return Progress(
        run_id=snapshot.run_id,
        trigger=run.trigger if run is not None else None,
        counts=counts,
        elapsed=max(0.0, elapsed),
        unsent=unsent,
        rate=rate,
        seconds_left=unsent / rate if rate else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """The status of ``job`` and of the backlog. ``progress``: of the run that goes on; None if none does."""

    job: str
    snapshot: JobSnapshot
    progress: Progress | None
    last_run: RunRow | None
    census: Census
    blocks: Sequence[BlockRow] = ()

    @property
    def pause(self) -> Pause:
        """What an operator has suspended."""
        return self.snapshot.pause

    @property
    def running(self) -> bool:
        """Whether a run goes on."""
        return self.snapshot.running

    @property
    def next_run(self) -> NextRun:
        """When the next run begins."""
        return self.snapshot.next_run

    @property
    def relay(self) -> Circuit:
        """The circuit of the relay."""
        return self.snapshot.circuit

    @property
    def warnings(self) -> Sequence[Finding]:
        """What is wrong, the worst first."""
        return self.snapshot.findings


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowJobStatus:
    """Show the status of a job and its backlog, also while Redis is away."""

    reports: Reports
    board: StatusBoard
    watch: Watch
    blocks: Blocks

    def __call__(self, job: str) -> JobStatus:
        """Return the status of ``job``. Raises ``StoreError``."""
        snapshot = self.watch.look(job)
        census = self.reports.census()
        return JobStatus(
            job=job,
            snapshot=snapshot,
            progress=self._progress(job, snapshot, census.unsent if snapshot.sends else 0)
            if snapshot.running
            else None,
            last_run=next((run for run in self.reports.runs(job, 5) if run.outcome is not None), None),
            census=census,
            blocks=self.blocks.all(),
        )

    def _progress(self, job: str, snapshot: JobSnapshot, unsent: int) -> Progress:
        run = self.reports.run(snapshot.run_id) if snapshot.run_id is not None else None
        # A Redis that does not answer takes seconds each time it is asked.
        shown = self.board.get(job) if run is not None and not snapshot.down else None
        return progress_of(snapshot, run, shown, unsent)
