"""``/``: the status, on one page that refreshes itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from mailbatch.domain.errors import MailbatchError
from mailbatch.interfaces.console.screen import Html, PageRoute, render, show, template_of
from mailbatch.interfaces.console.snapshot import Snapshots
from mailbatch.interfaces.http.auth import PageReader

if TYPE_CHECKING:
    from typing import Any

log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/")
def overview(request: Request, caller: PageReader) -> Response:
    """Show the page."""
    seen = look(request)
    return show(request, caller, "overview.html", title="Overview", paused=seen["now"].pause, **seen)


@router.get("/live")
def live(request: Request, caller: PageReader) -> Response:
    """Return the middle of the page, which htmx requests every two seconds."""
    seen = look(request)
    return Html(render(request, caller, "live.html", paused=seen["now"].pause, **seen))


def look(request: Request) -> dict[str, Any]:
    """Return what both show."""
    snapshots = snapshots_of(request.app)
    return {"now": snapshots.now(), "day": snapshots.day()}


def snapshots_of(app: FastAPI) -> Snapshots:
    """Return the snapshots of ``app``; the first call makes them."""
    if getattr(app.state, "snapshots", None) is None:
        app.state.snapshots = Snapshots(app.state.parts)
    found: Snapshots = app.state.snapshots
    return found


def prepare(app: FastAPI) -> None:
    """Do what the first page of a process would have to do first: it takes most of a second, so do it before.

    The page shows why the database cannot be read, so a failure here is only logged.
    """
    for name in ("overview.html", "live.html"):
        template_of(name)
    try:
        snapshots_of(app).now()
        snapshots_of(app).day()
    except MailbatchError as error:
        log.debug("the console's first page is not prepared: %s", error)
