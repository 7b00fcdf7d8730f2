"""Builds the web application: its guard, its errors and its routers."""

from __future__ import annotations

from asyncio import Semaphore
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from starlette.responses import RedirectResponse, Response

from mailbatch.interfaces.console import site
from mailbatch.interfaces.console.screen import error_page
from mailbatch.interfaces.http import (
    blocks,
    bulk,
    contents,
    files,
    login,
    metrics,
    operating,
    plan,
    preview,
    probes,
    problems,
    reference,
    relays,
    reservations,
    runs,
)
from mailbatch.interfaces.http.auth import AccessGate, LoginNeeded, login_address
from mailbatch.interfaces.http.guard import Guard
from mailbatch.interfaces.http.known_parameters import known_parameters

if TYPE_CHECKING:
    from fastapi import APIRouter
    from starlette.requests import Request

    from mailbatch.bootstrap import Parts

BODY_LIMIT = 32 * 2**20
"""Bytes of a request body at most, unless MAX_MESSAGE_BYTES allows a larger mail."""


def create_app(parts: Parts) -> FastAPI:
    """Return the application over ``parts``; the caller closes them. It opens nothing before the first request.

    Routes find ``parts`` and the gate in ``request.app.state``.
    """
    settings = parts.settings
    app = FastAPI(
        title="mailbatch",
        version=version("mailbatch"),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.parts = parts
    app.state.stopping = lambda: False
    app.state.storing = Semaphore(files.AT_ONCE)
    app.state.gate = gate = AccessGate(
        settings.api_token.get_secret_value() if settings.api_token else None,
        settings.api_read_token.get_secret_value() if settings.api_read_token else None,
        settings.user_header,
    )
    app.state.error_page = error_page
    problems.handle(app)
    app.add_exception_handler(LoginNeeded, _to_login)
    app.add_middleware(Guard, gate=gate, body_limit=max(BODY_LIMIT, 2 * settings.max_message_bytes))
    for router in _api():
        app.include_router(router, dependencies=[Depends(known_parameters)])
    for router in (probes.router, metrics.router, login.router, *site.ROUTERS):
        app.include_router(router)
    app.openapi = reference.document_of(app)  # type: ignore[method-assign] # FastAPI's way of doing it
    return app


def _api() -> list[APIRouter]:
    """Return the routers below ``/api``, in the order in which FastAPI matches them."""
    return [
        reservations.router,
        contents.router,
        files.router,
        bulk.router,
        runs.router,
        operating.router,
        blocks.router,
        relays.router,
        plan.router,
        preview.router,
    ]


async def _to_login(request: Request, _error: Exception) -> Response:
    return RedirectResponse(login_address(request), HTTPStatus.SEE_OTHER)
