"""``/api/status``, ``pause``, ``resume``, ``is-running`` and ``actions``."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.rows import ActionPlace, as_dict
from mailbatch.domain.run import Pause
from mailbatch.interfaces.documents import of_pause, of_status
from mailbatch.interfaces.http import status_schemas as schemas
from mailbatch.interfaces.http.auth import Operator, Reader
from mailbatch.interfaces.http.openapi import ACTING, tells
from mailbatch.interfaces.http.request_params import Cursor, JobName, Limit, page_of, parts_of
from mailbatch.interfaces.http.responses import json_response

router = APIRouter(prefix="/api", tags=["operating"])


@router.get("/status", summary="Show the status", **tells(schemas.Standing))
def status(request: Request, _caller: Reader, job: JobName = SEND_ALL) -> Response:
    """The pause, the run in progress, the backlog, the last run, the next run, the relay, and warnings.

    Every job shows the backlog and the relay; only `send-all` shows the warnings about them.
    While Redis is away, `down` says so; the heartbeat still shows a run in progress.
    """
    return json_response(of_status(parts_of(request).operating.job_status(job)))


@router.get("/is-running", summary="Is a run in progress?", **tells(schemas.Running))
def is_running(request: Request, _caller: Reader, job: JobName = SEND_ALL) -> Response:
    """Whether a run is in progress, and which: by its heartbeat, as in `/api/status`. It needs no Redis."""
    look = parts_of(request).operating.watch(job).look(job)
    return json_response({"running": look.running, "run_id": look.run_id, **of_pause(look.pause)})


@router.post("/pause", summary="Pause the sending, or another job", **tells(schemas.Paused, *ACTING))
def pause(request: Request, caller: Operator, body: schemas.PauseIn | None = None, job: JobName = SEND_ALL) -> Response:
    """No tick starts a run until `resume`; with `all` the run in progress stops too. A second call changes nothing."""
    paused = Pause.ALL if body and body.all else Pause.TICKS
    parts_of(request).acting.pause_job(caller.actor, job, paused)
    return json_response(of_pause(paused))


@router.post("/resume", summary="Resume the sending, or another job", **tells(schemas.Paused, *ACTING[:1]))
def resume(request: Request, caller: Operator, job: JobName = SEND_ALL) -> Response:
    """End any pause of the job."""
    parts_of(request).acting.pause_job(caller.actor, job, Pause.NONE)
    return json_response(of_pause(Pause.NONE))


@router.get("/actions", summary="Who did what?", **tells(schemas.ActionPage))
def actions(request: Request, _caller: Reader, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """What operators did through API, console and command line, newest first."""
    audit_log = parts_of(request).stores.audit_log
    rows, following = page_of(lambda before, most: audit_log.list(most, before), cursor, ActionPlace, limit)
    return json_response({"items": [as_dict(row) for row in rows], "next": following})
