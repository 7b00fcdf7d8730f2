"""The API's own reference: its OpenAPI document, and that as a plain page at ``/docs``; nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from mailbatch.interfaces.http import shapes
from mailbatch.interfaces.http.pages import page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fastapi import FastAPI

router = APIRouter(include_in_schema=False)

_ABOUT = """\
Reserve mails, look at them, and act on them. Every answer is JSON, every refusal problem details (RFC 9457) with the id
of the request. Times are ISO 8601 with their zone. Lists go on with the cursor in `next`.

Give a token as `Authorization: Bearer …`: MAILBATCH_API_TOKEN operates, MAILBATCH_API_READ_TOKEN only reads. A server
that has no tokens serves its own machine alone.
"""
_TAGS = {
    "reservations": "Mails that are to be sent, and what became of them.",
    "runs": "What each run of the batch did.",
    "operating": "How things stand; pause and resume; who did what.",
    "trying": "See a mail rendered, or send one to yourself.",
}
_UNNAMED = (shapes.ReservationIn, shapes.BulkDone, shapes.BulkPreview, shapes.ReservedMany, shapes.ProblemDocument)
"""Shapes that no route names as FastAPI wants it."""


def document_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What makes the OpenAPI document of ``app``, once."""

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
    # Every refusal is a problem, also those that FastAPI would tell of in its own shape.
    components.pop("HTTPValidationError", None)
    components.pop("ValidationError", None)
    document["components"]["schemas"] = dict(sorted(components.items()))
    return document


@router.get("/docs")
def docs(request: Request) -> Response:
    """Show it."""
    app: FastAPI = request.app
    return page("HTTP API", f"<main>{''.join(_page(app.openapi()))}</main>")


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    info = document["info"]
    yield f"<h1>mailbatch {escape(info['version'])}: HTTP API</h1>"
    yield "".join(f"<p>{_prose(part)}</p>" for part in info["description"].strip().split("\n\n"))
    yield '<p>The same for programs: <a href="/openapi.json">openapi.json</a>.</p>'
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p>"
        for path, verbs in document["paths"].items():
            for verb, operation in verbs.items():
                if tag["name"] in operation.get("tags", ()):
                    yield from _operation(document, verb, path, operation)


def _operation(document: Mapping[str, Any], verb: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    name = escape(f"{verb.upper()} {path}")
    yield f'<h3 id="{escape(operation["operationId"])}"><code><span class="verb">{verb.upper()}</span> {escape(path)}'
    yield f"</code> {escape(operation['summary'])}</h3><p>{_prose(operation.get('description', ''))}</p>"
    yield f'<details><summary aria-label="Parameters and answers of {name}">Parameters and answers</summary>'
    parameters = [p for p in operation.get("parameters", ()) if p["in"] in {"query", "path", "header"}]
    if parameters:
        yield "<div class=wide><table><tr><th>Name<th>Where<th>What</tr>"
        for parameter in parameters:
            must = " (required)" if parameter.get("required") else ""
            yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}{must}"
            yield f"<td>{_prose(parameter.get('description', ''))}</tr>"
        yield "</table></div>"
    if body := operation.get("requestBody"):
        yield from _content(document, "Body", body)
    for status, answer in operation["responses"].items():
        yield from _content(document, f"{status}: {answer.get('description', '')}", answer)
    yield "</details>"


def _content(document: Mapping[str, Any], title: str, part: Mapping[str, Any]) -> Iterator[str]:
    yield f"<p>{_prose(title)}</p>"
    for kind, content in part.get("content", {}).items():
        if kind == "application/problem+json":
            continue
        for schema in _alternatives(content.get("schema", {})):
            yield from _schema(document, schema)


def _alternatives(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    alternatives: list[Mapping[str, Any]] = [s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"]
    return alternatives


def _schema(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    if schema.get("type") == "array":
        yield f"<p>Or a list of {schema.get('minItems', 0)} to {schema.get('maxItems', '…')} of these.</p>"
        return
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    known = document["components"]["schemas"].get(name)
    if known is None:
        return
    fields = known.get("properties", {})
    required = set(known.get("required", ()))
    yield f"<details><summary>{escape(name)}: {escape(known.get('description', ''))}</summary>"
    yield "<div class=wide><table>"
    for field, shape in fields.items():
        star = "" if field in required else ' <span class="quiet">may be left out</span>'
        yield f"<tr><td><code>{escape(field)}</code>{star}<td>{escape(_type(shape))}"
        yield f"<td>{_prose(shape.get('description', ''))}</tr>"
    yield "</table></div>"
    for example in known.get("examples", ()):
        yield f"<pre>{escape(json.dumps(example, indent=2, ensure_ascii=False))}</pre>"
    yield "</details>"


def _type(shape: Mapping[str, Any]) -> str:
    if "anyOf" in shape:
        return " or ".join(_type(part) for part in shape["anyOf"])
    if "$ref" in shape:
        return str(shape["$ref"]).rpartition("/")[2]
    if shape.get("type") == "array":
        return f"list of {_type(shape.get('items', {}))}"
    return str(shape.get("format") or shape.get("type") or "anything")


def _prose(text: str) -> str:
    """Text with `code` in it, as HTML."""
    parts = escape(" ".join(text.split())).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
