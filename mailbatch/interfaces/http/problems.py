"""Errors as problem details (RFC 9457): what happened, in which request, what to do; never a traceback."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from mailbatch.domain.errors import (
    Busy,
    CannotCompose,
    InvalidReservation,
    KeyConflict,
    LockUnavailable,
    MailbatchError,
    NotFound,
    NotMigrated,
    StateConflict,
    StoreError,
)
from mailbatch.domain.redaction.lines import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI
    from starlette.requests import Request

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_STATUS: dict[type[MailbatchError], HTTPStatus] = {
    Busy: HTTPStatus.SERVICE_UNAVAILABLE,
    CannotCompose: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidReservation: HTTPStatus.UNPROCESSABLE_ENTITY,
    KeyConflict: HTTPStatus.CONFLICT,
    LockUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    NotFound: HTTPStatus.NOT_FOUND,
    NotMigrated: HTTPStatus.SERVICE_UNAVAILABLE,
    StateConflict: HTTPStatus.CONFLICT,
}
_SOON = {"Retry-After": "2"}
_LONGEST_NAME = 80
"""Characters of a name that a refusal repeats."""
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class Problem(HTTPException):
    """A refusal. ``detail``: one line that says what to do. ``members``: further members of the document."""

    def __init__(
        self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.members = members


class ProblemDocument(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:mailbatch:problem:conflict",
                    "title": "Conflict",
                    "status": 409,
                    "detail": "too late: it is sending",
                    "request_id": "01960d60-1f2e-7b55-a1c0-2d9e8f7a6b5c",
                }
            ]
        },
    )
    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    problems: list[str] | None = None


def document(status: int, detail: str, request_id: str | None, **members: Any) -> dict[str, Any]:
    """Return the problem document; programs compare its ``type``."""
    known = HTTPStatus(status)
    return {
        "type": f"urn:mailbatch:problem:{known.phrase.lower().replace(' ', '-')}",
        "title": known.phrase,
        "status": status,
        "detail": detail,
        **({"request_id": request_id} if request_id else {}),
        **members,
    }


def response(
    status: int, detail: str, request_id: str | None, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """Return the problem as a response."""
    body = json.dumps(document(status, detail, request_id, **members), ensure_ascii=False, default=str)
    return Response(body.encode("utf-8", "backslashreplace"), status, dict(headers or {}), MEDIA_TYPE)


def problem_response(request: Request, problem: HTTPException) -> Response:
    """Return the problem as a page for a browser, else as a document."""
    if wants_page(request):
        page: Response = request.app.state.error_page(request, problem)
        return page
    members = problem.members if isinstance(problem, Problem) else {}
    return response(problem.status_code, problem.detail, request_id(request), problem.headers, **members)


def wants_page(request: Request) -> bool:
    """Return whether a browser requests something outside the API: it prefers HTML to JSON (RFC 9110 §12.5.1)."""
    if request.scope["path"].startswith("/api/"):
        return False
    html, others = 0.0, 0.0
    for part in request.headers.get("accept", "").lower().split(","):
        kind, _, parameters = part.partition(";")
        if kind.strip() == "text/html":
            html = _quality(parameters)
        elif "json" in kind:
            others = max(others, _quality(parameters))
    return html > others


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def handle(app: FastAPI) -> None:
    """Respond to every refusal of ``app`` with a problem. Unexpected errors are the guard's."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(MailbatchError, _of_ours)


def problem_of(error: MailbatchError) -> Problem:
    """Return the problem for a known error."""
    if isinstance(error, StoreError):
        status = HTTPStatus.SERVICE_UNAVAILABLE if error.transient else HTTPStatus.INTERNAL_SERVER_ERROR
    else:
        status = next((s for kind, s in _STATUS.items() if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    problems = error.problems if isinstance(error, InvalidReservation) else None
    problems = error.errors if isinstance(error, CannotCompose) else problems
    members = {"problems": list(problems)} if problems else {}
    headers = _SOON if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    return Problem(status, str(error), headers, **members)


def request_id(request: Request) -> str | None:
    """Return the id that the guard gave this request."""
    found: str | None = request.scope.get("state", {}).get("request_id")
    return found


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - tells mypy what it was registered for
    detail = error.detail
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and detail == HTTPStatus.METHOD_NOT_ALLOWED.phrase:
        detail = f"{request.method} is not for this address; see the header Allow, or /docs"
        if request.method == "GET" and wants_page(request):
            detail = "there is no page at this address; a button of another page uses it"
    if error.status_code == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = "there is nothing at this address; see /docs"
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # RFC 9110 §15.5.6: all methods of the address; the router knows only those of its first route.
        headers["Allow"] = ", ".join(_methods(request))
    members = error.members if isinstance(error, Problem) else {}
    return problem_response(request, Problem(HTTPStatus(error.status_code), detail, headers, **members))


def _methods(request: Request) -> list[str]:
    """Return the methods of this address."""
    routes = request.app.routes
    asked = [(method, {**request.scope, "method": method}) for method in _METHODS]
    return [method for method, scope in asked if any(route.matches(scope)[0] is Match.FULL for route in routes)]


async def _not_understood(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    problems = [_line(e) for e in error.errors()]
    return problem_response(
        request, Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(problems[:5]), problems=problems)
    )


async def _of_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, MailbatchError)  # noqa: S101 - as above
    problem = problem_of(error)
    if problem.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("cannot answer: %s", error)
    return await _refused(request, problem)


def _line(error: Mapping[str, Any]) -> str:
    """Return which part of the request is wrong, and what is allowed there. The value itself is left out."""
    where: Sequence[Any] = error["loc"]
    name = ".".join(str(part) for part in where[1:]) or str(where[0])
    if error["type"] == "extra_forbidden":
        return f"{shown(name, _LONGEST_NAME)}: is no key of this request; see /docs"
    return f"{name}: {error['msg'].removeprefix('Value error, ').replace('Input should be', 'must be')}"
