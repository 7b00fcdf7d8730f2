"""``/runs``: the runs, and the errors of each, by kind and item by item."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from mailbatch.domain.errors import StateConflict
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.rows import ReservationSummary, RunPlace
from mailbatch.domain.run import REPORTED
from mailbatch.interfaces.console.overview import snapshots_of
from mailbatch.interfaces.console.screen import PageRoute, done, paused, show
from mailbatch.interfaces.http.auth import PageOperator, PageReader
from mailbatch.interfaces.http.request_params import JobName, page_of, parts_of
from mailbatch.interfaces.http.runs import export_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.rows import RunRow

router = APIRouter(prefix="/runs", include_in_schema=False, route_class=PageRoute)

PAGE = 50
ITEMS = 100


@router.get("")
def listed(
    request: Request,
    caller: PageReader,
    cursor: str | None = None,
    job: JobName = SEND_ALL,
    *,
    every: Annotated[bool, Query()] = False,
) -> Response:
    """Show a page of the runs of one job, newest first: ``every`` run, or only those worth a look."""
    reports = parts_of(request).stores.reports
    rows, following = page_of(lambda before, most: reports.runs(job, most, before, quiet=every), cursor, RunPlace, PAGE)
    last = reports.runs(job, 1)
    return show(
        request,
        caller,
        "runs.html",
        title="Runs",
        paused=paused(request),
        job=job,
        jobs=sorted({SEND_ALL, job, *(found.name for found in reports.jobs())}),
        rows=rows,
        counts=REPORTED,
        next=following,
        later=cursor is not None,
        every=every,
        quiet=None if every or cursor else _hidden(last, rows),
    )


@router.post("/{run_id}/stop")
def stop(request: Request, caller: PageOperator, run_id: UUID) -> Response:
    """Stop one run."""
    address = f"/runs/{run_id}"
    try:
        stopping = parts_of(request).acting.stop_run(caller.actor, run_id)
    except StateConflict as error:
        return done(request, address, f"{error}.", good=False)
    snapshots_of(request.app).now.forget()
    said = (
        "It ends before its next item, as revoked." if stopping.alive else "Its process is silent: it died, or hangs."
    )
    return done(request, address, f"The run was told to stop. {said}")


def _hidden(last: Sequence[RunRow], shown: Sequence[RunRow]) -> RunRow | None:
    """Return the last run if it is not the first one shown."""
    ids = [row.run_id for row in shown[:1]]
    return next((row for row in last if row.run_id not in ids), None)


@router.get("/{run_id}")
def one(request: Request, caller: PageReader, run_id: UUID, after: Annotated[int, Query(ge=0)] = 0) -> Response:
    """Show one run: its counts, its errors by kind, and a page of its items."""
    parts = parts_of(request)
    reports = parts.stores.reports
    row, _ = parts.operating.show_run(run_id)
    items = list(islice(reports.errors(run_id, min(after, 2**31 - 1)), ITEMS + 1))
    ids = {item.reservation_id for item in items if isinstance(item.reservation_id, UUID)}
    return show(
        request,
        caller,
        "run.html",
        title=f"Run {run_id}",
        paused=paused(request),
        row=row,
        counts=REPORTED,
        groups=reports.error_groups(run_id),
        items=items[:ITEMS],
        mails=parts.stores.reservations.some(ids, ReservationSummary),
        next=items[ITEMS - 1].index if len(items) > ITEMS else None,
        after=after,
    )


@router.get("/{run_id}/errors.csv")
def export(request: Request, caller: PageReader, run_id: UUID) -> Response:
    """Return all its errors, for a spreadsheet."""
    return export_errors(request, caller, run_id)
