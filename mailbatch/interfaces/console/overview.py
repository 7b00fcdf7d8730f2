"""``/``: the status, on one page that refreshes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import Response

from mailbatch.interfaces.console.screen import Html, Page, render, show
from mailbatch.interfaces.console.snapshot import Snapshots
from mailbatch.interfaces.http.auth import PageReader
from mailbatch.interfaces.http.request_params import parts_of

if TYPE_CHECKING:
    from typing import Any

router = APIRouter(include_in_schema=False, route_class=Page)


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
    snapshots = snapshots_of(request)
    return {"now": snapshots.now(), "day": snapshots.day()}


def snapshots_of(request: Request) -> Snapshots:
    """Return the snapshots of this application; the first call makes them."""
    state = request.app.state
    if getattr(state, "snapshots", None) is None:
        state.snapshots = Snapshots(parts_of(request))
    found: Snapshots = state.snapshots
    return found
