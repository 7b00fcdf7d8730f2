"""What a route tells the OpenAPI document: its answers, and the problems that any route may have."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from mailbatch.interfaces.http.problems import MEDIA_TYPE, ProblemDocument

if TYPE_CHECKING:
    from pydantic import BaseModel

_ANY = (HTTPStatus.UNAUTHORIZED, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.TOO_MANY_REQUESTS)
_WHY = {
    HTTPStatus.BAD_REQUEST: "The body is no JSON.",
    HTTPStatus.UNAUTHORIZED: "No token, or one that is not known.",
    HTTPStatus.FORBIDDEN: "The token may only read, or the request comes from another site's page.",
    HTTPStatus.NOT_FOUND: "There is none.",
    HTTPStatus.CONFLICT: "It does not fit the state in which things are; `detail` says which.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not said to be JSON.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Something in the request is wrong; `problems` has a line for each thing.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many wrong tokens; see Retry-After.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The database, Redis or the workers cannot be asked; see Retry-After.",
}


def tells(
    model: type[BaseModel], *more: HTTPStatus, status: HTTPStatus = HTTPStatus.OK, **others: Any
) -> dict[str, Any]:
    """Keyword arguments for a route that answers ``model``; ``more`` are problems beyond those of any route."""
    responses = {int(status): {"model": model}, **problems_of(*more)}
    return {"responses": responses, "response_model": None, "status_code": int(status), **others}


def problems_of(*more: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The problems that any route may have, and ``more``, as FastAPI wants them told."""
    told: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}
    return {
        int(problem): {"description": _WHY[problem], "content": {MEDIA_TYPE: told}}
        for problem in sorted({*_ANY, HTTPStatus.SERVICE_UNAVAILABLE, *more})
    }


ACTING = (HTTPStatus.FORBIDDEN, HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
"""Problems of whatever changes something."""
