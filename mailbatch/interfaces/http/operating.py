"""``/api/status``, ``pause``, ``resume``, ``is-running``, and what operators did."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import Response

from mailbatch.application.inquire import ShowStanding
from mailbatch.application.pause import PauseJob, ResumeJob
from mailbatch.batch.send_all import NAME
from mailbatch.domain.errors import LockUnavailable
from mailbatch.domain.run import Pause
from mailbatch.interfaces.documents import of_pause, of_standing
from mailbatch.interfaces.http import shapes
from mailbatch.interfaces.http.answers import answer
from mailbatch.interfaces.http.asking import Cursor, Limit, page_of, parts_of
from mailbatch.interfaces.http.auth import Operator, Reader
from mailbatch.interfaces.http.telling import ACTING, tells
from mailbatch.interfaces.noting import noted

if TYPE_CHECKING:
    from mailbatch.application.inquire import Standing
    from mailbatch.bootstrap import Parts

log = logging.getLogger(__name__)

router = APIRouter(prefix="/api", tags=["operating"])

_KEY = ("at", "id")


def standing(parts: Parts) -> tuple[Standing, list[str]]:
    """How ``send-all`` stands, and what could not be asked. Without Redis a run is known by its heartbeat alone."""
    try:
        return _standing(parts, redis=True), []
    except LockUnavailable as error:
        log.warning("the status is told without Redis: %s", error)
    return _standing(parts, redis=False), ["redis"]


def _standing(parts: Parts, *, redis: bool) -> Standing:
    ask = ShowStanding(
        reports=parts.reports,
        switch=parts.switch,
        driver=parts.lock(NAME) if redis else None,
        board=parts.status,
        watch=parts.watch(NAME, lock=redis),
    )
    return ask(NAME)


@router.get("/status", summary="How do things stand?", **tells(shapes.Standing))
def status(request: Request, _caller: Reader) -> Response:
    """Pause, run in progress, backlog, last run, next run, the relay, and what somebody should look at.

    While Redis is away, `down` says so, and a run in progress is known by its heartbeat.
    """
    found, down = standing(parts_of(request))
    return answer({**of_standing(found), "down": down})


@router.get("/is-running", summary="Does a run go on?", **tells(shapes.Running))
def is_running(request: Request, _caller: Reader) -> Response:
    """Whether somebody holds the lock, and which run that is."""
    parts = parts_of(request)
    running = parts.lock(NAME).peek() is not None
    run = parts.runs.open_run(NAME) if running else None
    paused = of_pause(parts.switch.paused(NAME))
    return answer({"running": running, "run_id": run.run_id if run else None, **paused})


@router.post("/pause", summary="Suspend the sending", **tells(shapes.Paused, *ACTING))
def pause(request: Request, caller: Operator, body: shapes.PauseIn | None = None) -> Response:
    """No tick starts a run until `resume`; with `all` the run in progress stops too. Said twice it does no harm."""
    parts = parts_of(request)
    everything = body.all if body else False
    what = (Pause.ALL if everything else Pause.TICKS).value
    with noted(parts.actions, caller, "pause", {"job": NAME, "what": what}):
        paused = PauseJob(parts.switch)(NAME, everything=everything)
    return answer(of_pause(paused))


@router.post("/resume", summary="Let the sending go on", **tells(shapes.Paused, *ACTING[:1]))
def resume(request: Request, caller: Operator) -> Response:
    """Whatever was paused."""
    parts = parts_of(request)
    with noted(parts.actions, caller, "resume", {"job": NAME}):
        paused = ResumeJob(parts.switch)(NAME)
    return answer(of_pause(paused))


@router.get("/actions", summary="Who did what?", **tells(shapes.ActionPage))
def actions(request: Request, _caller: Reader, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """What operators did, by API, console and command line, the newest first."""
    acts = parts_of(request).actions
    rows, following = page_of(lambda before, most: acts.list(most, before), cursor, _KEY, limit)
    return answer({"items": rows, "next": following})
