"""Describes a route in the OpenAPI document: its response, and the problems that any route may have."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from mailbatch.interfaces.http.problems import MEDIA_TYPE, ProblemDocument

if TYPE_CHECKING:
    from pydantic import BaseModel

_ANY = (HTTPStatus.UNAUTHORIZED, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.TOO_MANY_REQUESTS)
_WHY = {
    HTTPStatus.BAD_REQUEST: "The body is no JSON.",
    HTTPStatus.UNAUTHORIZED: "No token, or an unknown one.",
    HTTPStatus.FORBIDDEN: "The token may only read, or the request comes from another site's page.",
    HTTPStatus.NOT_FOUND: "It does not exist.",
    HTTPStatus.CONFLICT: "The current state does not allow it; `detail` says why.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "This Content-Type is not accepted here.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Something in the request is wrong; `problems` has a line for each error.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many wrong tokens; see Retry-After.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The database, Redis or the workers are not available; see Retry-After.",
}


BYTES = {"schema": {"type": "string", "format": "binary"}}
"""The content of a body that is no JSON: generators of clients need a schema."""


def tells(
    model: type[BaseModel], *more: HTTPStatus, status: HTTPStatus = HTTPStatus.OK, **others: Any
) -> dict[str, Any]:
    """Return keyword arguments for a route that responds with ``model``. ``more``: further problems of the route."""
    responses = {int(status): {"model": model}, **problems_of(*more)}
    return {"responses": responses, "response_model": None, "status_code": int(status), **others}


def problems_of(*more: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the problems that any route may have, and ``more``, in FastAPI's form."""
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}
    return {
        int(problem): {"description": _WHY[problem], "content": {MEDIA_TYPE: content}}
        for problem in sorted({*_ANY, HTTPStatus.SERVICE_UNAVAILABLE, *more})
    }


ACTING = (HTTPStatus.FORBIDDEN, HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
"""The problems of any route that changes something."""
