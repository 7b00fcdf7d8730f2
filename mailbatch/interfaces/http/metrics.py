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
from mailbatch.interfaces.http.request_params import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mailbatch.application.looking.metrics import Measure
    from mailbatch.domain.schedule import Schedule

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
        parts = parts_of(request)
        state.exposition = exposition(parts.operating.measure, parts.settings.when, parts.sending.relay_connections)
    return Response(state.exposition(), media_type=CONTENT_TYPE)


def exposition(measure: Measure, when: Schedule, connections: Callable[[], Mapping[str, int]]) -> Exposition:
    """Return the text of the metrics. ``connections`` returns how many are open, by relay."""
    interval = longest_gap(when, datetime.now(UTC))
    return Exposition(measure, version=version("mailbatch"), interval=interval, connections=connections)
