"""``/healthz`` and ``/readyz``: does this process live, and can it work?"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from mailbatch.domain.errors import MailbatchError
from mailbatch.interfaces.http.request_params import parts_of
from mailbatch.interfaces.http.responses import json_response

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Checks: TypeAlias = dict[str, Callable[[], object]]

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> Response:
    """Respond, and check nothing else: nobody should restart the process because the database is away.

    It runs on the event loop, because a database that hangs may block all threads of the other routes.
    """
    return json_response({"ok": True})


@router.get("/readyz")
async def readyz(request: Request, of: Annotated[Literal["database", "redis"] | None, Query()] = None) -> Response:
    """Check that the database has its tables and that Redis responds; or only the one that the query names.

    Without Redis mails can still be reserved, and the console shows what is wrong. The response gives no reason,
    because this route needs no token.
    """
    # In threads of the loop: requests that wait for a relay or a database may block all threads of the routes.
    parts = parts_of(request)
    checks: Checks = {"database": parts.ensure_migrated, "redis": parts.ping_redis}
    found = await asyncio.to_thread(_checked, {name: check for name, check in checks.items() if of in {None, name}})
    ready = all(found.values())
    return json_response({"ok": ready, **found}, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


def _checked(checks: Checks) -> dict[str, bool]:
    return {name: _succeeds(check) for name, check in checks.items()}


def _succeeds(check: Callable[[], object]) -> bool:
    try:
        check()
    except MailbatchError:
        return False
    return True
