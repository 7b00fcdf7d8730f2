"""``/api/runs`` and ``/api/run-now``: lists runs and their errors, stops a run, starts one."""

from __future__ import annotations

import time
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from mailbatch.batch.producer import call_send_all, celery_app
from mailbatch.batch.worker_inspection import find_workers
from mailbatch.domain.errors import NotFound
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.rows import ErrorPlace, RunPlace
from mailbatch.domain.run import RunOutcome, Trigger
from mailbatch.interfaces.csvs import errors_as_csv
from mailbatch.interfaces.documents import of_run, of_stopping
from mailbatch.interfaces.http import run_schemas as schemas
from mailbatch.interfaces.http.auth import Operator, Reader
from mailbatch.interfaces.http.once import OnceOnly
from mailbatch.interfaces.http.openapi import ACTING, tells
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import Cursor, JobName, Limit, page_of, parts_of
from mailbatch.interfaces.http.responses import json_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from celery import Celery
    from celery.result import AsyncResult

    from mailbatch.application.looking.watch import Watch
    from mailbatch.application.ports.reports import Reports
    from mailbatch.domain.run import ItemError

router = APIRouter(prefix="/api", tags=["runs"])

LONGEST_WAIT = 60.0
_POLL = 0.1
_FIRST_ERRORS = 100


@router.get("/runs", summary="List runs, the newest first", **tells(schemas.RunPage))
def list_runs(
    request: Request, _caller: Reader, job: JobName = SEND_ALL, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Continue with the cursor in `next`."""
    reports = parts_of(request).stores.reports
    rows, following = page_of(lambda before, most: reports.runs(job, most, before), cursor, RunPlace, limit)
    return json_response({"items": [of_run(row) for row in rows], "next": following})


@router.get("/runs/{run_id}", summary="Show a run, with its errors", **tells(schemas.RunFull, HTTPStatus.NOT_FOUND))
def show_run(request: Request, _caller: Reader, run_id: UUID) -> Response:
    """Its errors by kind, and the first hundred in full."""
    parts = parts_of(request)
    row, errors = parts.operating.show_run(run_id)
    more = {name: getattr(row, name) for name in ("job", "bound", "error", "host", "pid", "heartbeat_at")}
    groups = [
        {"outcome": g.outcome, "reply_code": g.reply_code, "enhanced_code": g.enhanced_code, "count": g.count}
        | {"example": g.example}
        for g in parts.stores.reports.error_groups(run_id)
    ]
    first = [_item(error) for error in islice(errors, _FIRST_ERRORS)]
    return json_response({**of_run(row), **more, "error_groups": groups, "errors": first})


@router.get("/runs/{run_id}/errors", summary="All errors of a run", **tells(schemas.ErrorPage, HTTPStatus.NOT_FOUND))
def list_errors(request: Request, _caller: Reader, run_id: UUID, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """Sorted by index, in full: they contain addresses."""
    reports = parts_of(request).stores.reports
    _ensure_run(parts_of(request).stores.reports, run_id)

    def read(last: ErrorPlace | None, most: int) -> Iterable[ItemError]:
        return islice(reports.errors(run_id, last.index if last else 0), most)

    errors, following = page_of(read, cursor, ErrorPlace, limit)
    return json_response({"items": [_item(error) for error in errors], "next": following})


_CSV: dict[str, Any] = {**tells(schemas.ErrorPage, HTTPStatus.NOT_FOUND)}
_CSV["responses"][200] = {"description": "CSV in UTF-8.", "content": {"text/csv": {"schema": {"type": "string"}}}}


@router.get("/runs/{run_id}/errors.csv", summary="All errors of a run, for a spreadsheet", **_CSV)
def export_errors(request: Request, _caller: Reader, run_id: UUID) -> Response:
    """One row for each error. A cell that a spreadsheet would read as a formula begins with an apostrophe."""
    _ensure_run(parts_of(request).stores.reports, run_id)
    name = f'attachment; filename="run-{run_id}-errors.csv"'
    return StreamingResponse(
        errors_as_csv(parts_of(request).stores.reports.errors(run_id)),
        media_type="text/csv",
        headers={"Content-Disposition": name},
    )


@router.post(
    "/runs/{run_id}/stop",
    summary="Stop a run",
    **tells(schemas.Stopping, *ACTING[:1], HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, status=HTTPStatus.ACCEPTED),
)
def stop_run(request: Request, caller: Operator, run_id: UUID) -> Response:
    """It ends between two items, as `revoked`, and its work is kept. The next tick starts another run.

    This works for any job, and without Redis. 409 if it has ended. A second call changes nothing.
    """
    stopping = parts_of(request).acting.stop_run(caller.actor, run_id)
    return json_response(of_stopping(stopping), HTTPStatus.ACCEPTED)


_NOW = tells(schemas.Report, *ACTING[:1], HTTPStatus.CONFLICT)
_NOW["responses"][202] = {"model": schemas.Queued, "description": "It is queued, or in progress."}


@router.post("/run-now", summary="Send what is due, now", **_NOW)
def run_now(
    request: Request,
    caller: Operator,
    once: OnceOnly,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for the report.")] = 0,
) -> Response:
    """Returns the report of the run if it ends within `wait` seconds, else 202. A pause of the ticks does not stop it.

    409 with the id of the run in progress, if there is one. 503 if no worker responds; then nothing was queued.
    """
    parts = parts_of(request)
    watch = parts.operating.watch(SEND_ALL)

    def start() -> tuple[int, Any]:
        if parts.lock(SEND_ALL).peek() is not None:
            raise _second_run(watch)
        ensure_worker(celery_of(request))
        with parts.acting.audit.around(caller.actor, "run-now", {}) as entry:
            result = call_send_all(celery_of(request), Trigger.API)
            entry.target = {"task_id": result.id}
            status, value = _outcome(result, wait, request.app.state.stopping, watch)
            if run_id := value.get("run_id"):
                entry.target |= {"run_id": run_id}
        return status, value

    return once(start)


def celery_of(request: Request) -> Celery:
    """Return the Celery app of this process; the first call makes it."""
    state = request.app.state
    if getattr(state, "celery", None) is None:
        state.celery = celery_app(parts_of(request).identity)
    app: Celery = state.celery
    return app


def ensure_worker(app: Celery) -> None:
    """Raise ``Problem`` unless a worker can take a run."""
    found = find_workers(app)
    if not found.consumers:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, found.why_none(), {"Retry-After": "30"})


def _outcome(
    result: AsyncResult, wait: float, stopping: Callable[[], bool], watch: Watch
) -> tuple[int, dict[str, Any]]:
    until = time.monotonic() + wait
    while not (ended := result.ready()) and time.monotonic() < until and not stopping():
        time.sleep(_POLL)
    if not ended:
        return HTTPStatus.ACCEPTED, {"task_id": result.id}
    report = result.result
    if not isinstance(report, dict):
        reason = str(report) or type(report).__name__
        raise Problem(
            HTTPStatus.CONFLICT, f"the run broke, or was revoked before it began: {reason}", task_id=result.id
        )
    if report["outcome"] == RunOutcome.SKIPPED:
        raise _second_run(watch)
    return HTTPStatus.OK, report


def _second_run(watch: Watch) -> Problem:
    """Return the refusal of a second run, with the id of the run in progress."""
    look = watch.look(SEND_ALL)
    if look.blocked is not None:
        return Problem(HTTPStatus.CONFLICT, look.blocked, {"Retry-After": "30"}, run_id=None)
    run_id = str(look.run_id) if look.run_id else None
    which = f"run {run_id}" if run_id else "another run, which has just begun or ended,"
    return Problem(HTTPStatus.CONFLICT, f"job is already running: {which}", {"Retry-After": "5"}, run_id=run_id)


def _ensure_run(reports: Reports, run_id: UUID) -> None:
    if reports.run(run_id) is None:
        raise NotFound(f"no run {run_id}")


def _item(error: ItemError) -> dict[str, Any]:
    return {"index": error.index, "reservation_id": error.reservation_id or None, "errors": error.errors}
