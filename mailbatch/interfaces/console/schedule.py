"""``/schedule``: the next run and its plan, and the buttons: pause, stop, resume, send now."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from mailbatch.batch.producer import call_send_all
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.rows import ReservationSummary
from mailbatch.domain.run import COUNTED, Pause, RunOutcome, Trigger
from mailbatch.interfaces.console import formatting
from mailbatch.interfaces.console.overview import snapshots_of
from mailbatch.interfaces.console.screen import PageRoute, done, paused, show
from mailbatch.interfaces.documents import nothing_counted
from mailbatch.interfaces.http.auth import FormFields, PageOperator, PageReader
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import JobName, parts_of
from mailbatch.interfaces.http.runs import celery_of, ensure_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery.result import AsyncResult

    from mailbatch.domain.rows import ActionRow

router = APIRouter(prefix="/schedule", include_in_schema=False, route_class=PageRoute)

_ACTIONS = 15
_PLANNED = 25
_PLAN_SECONDS = 2.0
"""Seconds for rendering the mails of a plan at most."""
_SOON = 2.0
"""Seconds that the button waits for its run, to show the result."""
_SAID = {
    Pause.TICKS: "Paused: no tick starts a run. A run in progress finishes, and “Send now” still works.",
    Pause.ALL: "Stopped: a run in progress ends before its next mail, and nothing starts until you resume.",
}
_SAID_OF_OTHERS = {
    Pause.TICKS: "{} is paused: no tick starts a run of it. A run in progress finishes.",
    Pause.ALL: "{} is stopped: a run in progress ends before its next item, and none starts until you resume it.",
}


@router.get("")
def schedule(request: Request, caller: PageReader) -> Response:
    """Show the page."""
    parts = parts_of(request)
    snapshot = snapshots_of(request.app).now()
    actions = parts.stores.audit_log.list(_ACTIONS)
    return show(
        request,
        caller,
        "schedule.html",
        title="Schedule",
        paused=paused(request),
        now=snapshot,
        every=formatting.schedule(parts.settings.when),
        actions=actions,
        blocks=parts.stores.blocks.all(),
        mails={str(own): row for own, row in parts.stores.reservations.some(_ids(actions), ReservationSummary).items()},
        jobs=[job for job in parts.stores.reports.jobs() if job.name != SEND_ALL],
    )


def _ids(actions: Sequence[ActionRow]) -> set[UUID]:
    """Return the ids of the single reservations that were acted on."""
    found = set()
    for action in actions:
        with suppress(ValueError):
            found.add(UUID(str((action.target or {}).get("id"))))
    return found


@router.get("/plan")
def plan(request: Request, caller: PageReader) -> Response:
    """Show what the next run would send: rendered, not sent."""
    parts = parts_of(request)
    by = parts.operating.watch(SEND_ALL, lock=False).look(SEND_ALL).next_run.to_come
    until = time.monotonic() + _PLAN_SECONDS
    return show(
        request,
        caller,
        "plan.html",
        title="The next run",
        paused=paused(request),
        plan=parts.operating.plan_run.first(by, _PLANNED, lambda: time.monotonic() > until),
    )


@router.post("/pause")
def pause(request: Request, caller: PageOperator, fields: FormFields, job: JobName = SEND_ALL) -> Response:
    """Pause the ticks of a job, or everything."""
    what = Pause.ALL if fields.get("what") == ["all"] else Pause.TICKS
    parts_of(request).acting.pause_job(caller.actor, job, what)
    return _back(request, _SAID[what] if job == SEND_ALL else _SAID_OF_OTHERS[what].format(job))


@router.post("/resume")
def resume(request: Request, caller: PageOperator, job: JobName = SEND_ALL) -> Response:
    """Resume a job."""
    parts_of(request).acting.pause_job(caller.actor, job, Pause.NONE)
    return _back(request, "Resumed: the next tick starts a run.")


@router.post("/block")
def block(request: Request, caller: PageOperator, fields: FormFields) -> Response:
    """Block a tag."""
    [tag], [note] = fields.get("tag", [""]), fields.get("note", [""])
    parts_of(request).acting.block_tag.block(caller.actor, tag, note)
    return _back(request, f"Blocked: the mails of the tag {tag} wait until you unblock it.")


@router.post("/unblock")
def unblock(request: Request, caller: PageOperator, fields: FormFields) -> Response:
    """Lift the block of a tag."""
    [tag] = fields.get("tag", [""])
    parts_of(request).acting.block_tag.lift(caller.actor, tag)
    return _back(request, f"Unblocked: the mails of the tag {tag} go again.")


@router.post("/run-now")
def run_now(request: Request, caller: PageOperator) -> Response:
    """Send what is due; if the run ends quickly, the next page shows the result."""
    parts = parts_of(request)
    if parts.lock(SEND_ALL).peek() is not None:
        why = parts.operating.watch(SEND_ALL).look(SEND_ALL).blocked
        said = "A run is in progress already: job is already running" if why is None else why[:1].upper() + why[1:]
        return _back(request, f"{said}.", good=False)
    try:
        ensure_worker(celery_of(request))
    except Problem as problem:
        return _back(request, str(problem.detail), good=False)
    with parts.acting.audit.around(caller.actor, "run-now", {}) as entry:
        result = call_send_all(celery_of(request), Trigger.API)
        entry.target = {"task_id": result.id}
    said, good = _came_to(result)
    return _back(request, said, good=good)


def _came_to(result: AsyncResult) -> tuple[str, bool]:
    """Return the sentence about a call, and whether it is good news."""
    until = time.monotonic() + _SOON
    while not result.ready() and time.monotonic() < until:
        time.sleep(0.05)
    if not result.ready():
        return "A run was asked for; a worker takes it up.", True
    report = result.result
    if not isinstance(report, dict):
        return f"The call failed: {one_line(str(report)) or type(report).__name__}", False
    if report["outcome"] == RunOutcome.PAUSED and not any(report[name] for name in COUNTED):
        return "Nothing was sent: it is paused. “Resume” ends that.", False
    counted = ", ".join(f"{report[name]:,} {formatting.state(name)}" for name in COUNTED if report[name])
    return (
        f"The run is over, {formatting.state(report['outcome'])}: {counted or nothing_counted(report['outcome'])}.",
        True,
    )


def _back(request: Request, text: str, *, good: bool = True) -> Response:
    snapshots_of(request.app).now.forget()
    snapshots_of(request.app).day.forget()
    came_from = request.headers.get("referer", "")
    target = "/schedule" if came_from.endswith("/schedule") else "/"
    return done(request, target, text, good=good)
