"""``/metrics``, for Prometheus; the read token is enough."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mailbatch.infrastructure.cron import longest_gap
from mailbatch.interfaces.http.auth import Reader
from mailbatch.interfaces.http.exposition import CONTENT_TYPE, Exposition
from mailbatch.interfaces.http.openapi import problems_of

if TYPE_CHECKING:
    from mailbatch.bootstrap import Parts

router = APIRouter(tags=["operating"])


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}, **problems_of()},
)
def metrics(request: Request, _caller: Reader) -> Response:
    """The metrics in Prometheus' text format, at most ten seconds old; see how-to/monitor."""
    state = request.app.state
    if not hasattr(state, "exposition"):
        state.exposition = exposition(state.parts)
    return Response(state.exposition(), media_type=CONTENT_TYPE)


def exposition(parts: Parts) -> Exposition:
    """Return the text of the metrics of ``parts``."""
    interval = longest_gap(parts.settings.when, datetime.now(UTC))
    return Exposition(
        parts.operating.measure,
        version=version("mailbatch"),
        interval=interval,
        connections=parts.sending.relay_connections,
    )
