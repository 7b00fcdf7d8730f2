"""``/api/status``, ``pause``, ``resume``, ``is-running``, and what operators did."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.rows import ActionPlace, as_dict
from mailbatch.domain.run import Pause
from mailbatch.interfaces.documents import of_pause, of_standing
from mailbatch.interfaces.http import status_schemas as schemas
from mailbatch.interfaces.http.auth import Operator, Reader
from mailbatch.interfaces.http.openapi import ACTING, tells
from mailbatch.interfaces.http.request_params import Cursor, JobName, Limit, page_of, parts_of
from mailbatch.interfaces.http.responses import answer

router = APIRouter(prefix="/api", tags=["operating"])


@router.get("/status", summary="How do things stand?", **tells(schemas.Standing))
def status(request: Request, _caller: Reader, job: JobName = SEND_ALL) -> Response:
    """Pause, run in progress, backlog, last run, next run, the relay, and what somebody should look at.

    The backlog and the relay are told with every job, the warnings about them with `send-all` only.
    While Redis is away, `down` says so; a run in progress is known by its heartbeat all the same.
    """
    return answer(of_standing(parts_of(request).operating.job_status(job)))


@router.get("/is-running", summary="Does a run go on?", **tells(schemas.Running))
def is_running(request: Request, _caller: Reader, job: JobName = SEND_ALL) -> Response:
    """Whether a run goes on, and which: by its heartbeat, as in `/api/status`. It needs no Redis."""
    look = parts_of(request).operating.watch(job).look(job)
    return answer({"running": look.running, "run_id": look.run_id, **of_pause(look.pause)})


@router.post("/pause", summary="Suspend the sending, or another job", **tells(schemas.Paused, *ACTING))
def pause(request: Request, caller: Operator, body: schemas.PauseIn | None = None, job: JobName = SEND_ALL) -> Response:
    """No tick starts a run until `resume`; with `all` the run in progress stops too. Said twice it does no harm."""
    paused = Pause.ALL if body and body.all else Pause.TICKS
    parts_of(request).acting.pause_job(caller.actor, job, paused)
    return answer(of_pause(paused))


@router.post("/resume", summary="Let the sending, or another job, go on", **tells(schemas.Paused, *ACTING[:1]))
def resume(request: Request, caller: Operator, job: JobName = SEND_ALL) -> Response:
    """Whatever was paused."""
    parts_of(request).acting.pause_job(caller.actor, job, Pause.NONE)
    return answer(of_pause(Pause.NONE))


@router.get("/actions", summary="Who did what?", **tells(schemas.ActionPage))
def actions(request: Request, _caller: Reader, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """What operators did, by API, console and command line, the newest first."""
    audit_log = parts_of(request).stores.audit_log
    rows, following = page_of(lambda before, most: audit_log.list(most, before), cursor, ActionPlace, limit)
    return answer({"items": [as_dict(row) for row in rows], "next": following})
