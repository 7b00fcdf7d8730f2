"""``/duplicates``: who may have got a mail twice. ``/twice``, its earlier path, redirects there."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from mailbatch.application.looking.filters import read_moment
from mailbatch.interfaces.console.screen import PageRoute, paused, show
from mailbatch.interfaces.http.auth import PageReader
from mailbatch.interfaces.http.request_params import parts_of

router = APIRouter(include_in_schema=False, route_class=PageRoute)

SINCE = "1d"
MOST = 200


@router.get("/duplicates")
def listed(request: Request, caller: PageReader, since: str = SINCE) -> Response:
    """Show the page."""
    when = read_moment("since", since, datetime.now(UTC))
    return show(
        request,
        caller,
        "duplicates.html",
        title="Duplicates",
        paused=paused(request),
        rows=parts_of(request).stores.duplicates.resent(when, MOST),
        since=when,
        asked=since,
        most=MOST,
        on_doubt=parts_of(request).settings.on_doubt.value,
    )


@router.get("/twice")
def moved(request: Request) -> Response:
    """Redirect the earlier path."""
    return RedirectResponse(f"/duplicates?{request.url.query}".rstrip("?"), HTTPStatus.PERMANENT_REDIRECT)
