"""The API's OpenAPI document; the console shows it at ``/docs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from mailbatch.interfaces.http.bulk import BulkDone, BulkPreview
from mailbatch.interfaces.http.problems import ProblemDocument
from mailbatch.interfaces.http.reservation_schemas import ReservationIn, ReservedMany

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

_ABOUT = """\
Reserve mails, look at them, and act on them. Every answer is JSON, every refusal problem details (RFC 9457) with the id
of the request. Times are ISO 8601 with their zone. Lists go on with the cursor in `next`.

Give a token as `Authorization: Bearer …`: MAILBATCH_API_TOKEN operates, MAILBATCH_API_READ_TOKEN only reads. A server
that has no tokens serves its own machine alone.
"""
_TAGS = {
    "reservations": "Mails that are to be sent, and what became of them.",
    "runs": "What each run of the batch did.",
    "operating": "The status; pause and resume; who did what.",
    "trying": "See a mail rendered, or send one to yourself.",
}
_UNNAMED = (ReservationIn, BulkDone, BulkPreview, ReservedMany, ProblemDocument)
"""Schemas that no route declares in FastAPI's way."""


def document_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Return a function that makes the OpenAPI document of ``app`` once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(
                    title="mailbatch",
                    version=app.version,
                    summary="Scheduled mail: reserved in your transaction, sent once, stopped when told",
                    description=_ABOUT,
                    routes=app.routes,
                    servers=[{"url": "/", "description": "The server that gives this document."}],
                    license_info={"name": "MIT", "identifier": "MIT"},
                    tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
                )
            )
        return app.openapi_schema

    return openapi


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document["components"]["schemas"]
    for shape in _UNNAMED:
        schema = shape.model_json_schema(ref_template="#/components/schemas/{model}", mode="validation")
        components.update(schema.pop("$defs", {}))
        components[shape.__name__] = schema
    # Every refusal is a problem document, also where FastAPI has a schema of its own.
    components.pop("HTTPValidationError", None)
    components.pop("ValidationError", None)
    document["components"]["schemas"] = dict(sorted(components.items()))
    return document
