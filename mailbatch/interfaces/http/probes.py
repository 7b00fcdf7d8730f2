"""``/healthz`` and ``/readyz``: does this process live, and can it do anything?"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from mailbatch.domain.errors import MailbatchError
from mailbatch.interfaces.http.request_params import parts_of
from mailbatch.interfaces.http.responses import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.bootstrap import Parts

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> Response:
    """The process answers; nothing else is asked, so that nobody restarts it because the database is away.

    On the loop itself: a database that hangs may hold all the threads in which other routes are answered.
    """
    return answer({"ok": True})


@router.get("/readyz")
async def readyz(request: Request, of: Annotated[Literal["database", "redis"] | None, Query()] = None) -> Response:
    """The database has its tables, and Redis answers; or the one of them that is asked for.

    Without Redis mails are reserved all the same, and the console says what is wrong. Why something is not ready is
    not told, for anybody may ask here.
    """
    # In threads of the loop's own: requests that wait for a relay or a database may hold all that the routes have.
    found = await asyncio.to_thread(_checked, parts_of(request), of)
    ready = all(found.values())
    return answer({"ok": ready, **found}, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


def _checked(parts: Parts, of: str | None) -> dict[str, bool]:
    checks: dict[str, Callable[[], object]] = {"database": parts.ensure_migrated, "redis": parts.ping_redis}
    return {name: _well(check) for name, check in checks.items() if of in {None, name}}


def _well(check: Callable[[], object]) -> bool:
    try:
        check()
    except MailbatchError:
        return False
    return True
