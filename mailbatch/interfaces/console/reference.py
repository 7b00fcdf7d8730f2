"""``/docs``: the OpenAPI document of the API as a page of the console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from mailbatch.interfaces.console.screen import PageRoute, show
from mailbatch.interfaces.http.auth import PageVisitor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI

router = APIRouter(prefix="/docs", include_in_schema=False, route_class=PageRoute)

_REFUSALS = "application/problem+json"
"""The schema of every refusal: it is shown once, not with each route."""


@router.get("")
def reference(request: Request, caller: PageVisitor) -> Response:
    """Show the page. It needs no token, because it shows nothing about any mail."""
    app: FastAPI = request.app
    document = app.openapi()
    return show(
        request,
        caller,
        "reference.html",
        title="HTTP API",
        info=document["info"],
        sections=[(tag, _operations(document, tag["name"])) for tag in document["tags"]],
        shapes_of=lambda part: _shapes(document, part),
        type_of=_type,
    )


def _operations(document: Mapping[str, Any], tag: str) -> Sequence[tuple[str, str, Mapping[str, Any]]]:
    """Return path, method and operation of the routes with ``tag``."""
    return [
        (path, verb.upper(), operation)
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
        if isinstance(operation, dict) and tag in operation.get("tags", ())
    ]


def _shapes(document: Mapping[str, Any], part: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, Any] | None]]:
    """Return the schemas of a body or a response with their names; None for a list of the one before."""
    schemas = document["components"]["schemas"]
    found: list[tuple[str, Mapping[str, Any] | None]] = []
    for kind, content in part.get("content", {}).items():
        if kind == _REFUSALS:
            continue
        schema = content.get("schema", {})
        for one in schema.get("anyOf", [schema]):
            name = str(one.get("$ref", "")).rpartition("/")[2]
            if one.get("type") == "array":
                found.append((f"Or a list of {one.get('minItems', 0)} to {one.get('maxItems', '…')} of these.", None))
            elif name in schemas:
                found.append((name, schemas[name]))
    return found


def _type(shape: Mapping[str, Any]) -> str:
    if "anyOf" in shape:
        return " or ".join(_type(part) for part in shape["anyOf"])
    if "$ref" in shape:
        return str(shape["$ref"]).rpartition("/")[2]
    if shape.get("type") == "array":
        return f"list of {_type(shape.get('items', {}))}"
    return str(shape.get("format") or shape.get("type") or "anything")
