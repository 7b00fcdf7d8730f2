"""Checks the messages of a Celery queue: a malformed one would end the worker that receives it."""

from __future__ import annotations

import base64
import json
from typing import Any

_NONE = type(None)
_TEXT = (str, _NONE)
_FIELDS: dict[str, tuple[type, ...]] = {
    "body": _TEXT,
    "content-type": _TEXT,
    "content-encoding": _TEXT,
    "headers": (dict, _NONE),
    "properties": (dict,),
}
_PROPERTIES: dict[str, tuple[type, ...]] = {
    "delivery_tag": (str,),
    "delivery_info": (dict,),
    "correlation_id": _TEXT,
    "reply_to": _TEXT,
    "body_encoding": _TEXT,
    "priority": (int, _NONE),
}
# The headers that Celery's worker reads before the task runs; others belong to the task.
_HEADERS: dict[str, tuple[type, ...]] = {
    "task": (str,),
    "id": (str,),
    "eta": _TEXT,
    "expires": (str, int, float, _NONE),
    "timelimit": (list, _NONE),
    "retries": (int, _NONE),
    "group": _TEXT,
    "root_id": _TEXT,
    "parent_id": _TEXT,
    "shadow": _TEXT,
    "argsrepr": _TEXT,
    "kwargsrepr": _TEXT,
    "origin": _TEXT,
    "lang": _TEXT,
    "compression": _TEXT,
    "ignore_result": (bool, _NONE),
    "stamps": (dict, _NONE),
    "stamped_headers": (list, _NONE),
}
_ARGUMENTS: tuple[tuple[type, ...], ...] = ((list,), (dict,), (dict, _NONE))
_LIMITS = 2


def problem_of(message: Any) -> str | None:
    """Return in a few words what is wrong with ``message``, as it was read from its queue; None if nothing."""
    if not isinstance(message, dict):
        return "it is no JSON object"
    if problem := _wrong_field(message, _FIELDS) or _wrong_field(message["properties"], _PROPERTIES):
        return problem
    info = message["properties"]["delivery_info"]
    if not all(isinstance(info.get(name), str) for name in ("exchange", "routing_key")):
        return "delivery_info needs exchange and routing_key"
    # Celery itself refuses other content types (accept_content).
    return _problem_inside(message) if message.get("content-type") == "application/json" else None


def _problem_inside(message: dict[str, Any]) -> str | None:
    try:
        body = _body_of(message)
    except (ValueError, RecursionError):
        return "its body cannot be read"
    headers = message.get("headers") or {}
    if "task" in headers:
        return _problem_of_call(headers) or _problem_of_arguments(body)
    if isinstance(body, dict) and "task" in body:
        # Celery's first protocol: the body holds everything.
        return _problem_of_call(body) or _problem_of_arguments([body.get("args", []), body.get("kwargs", {}), {}])
    return None


def _body_of(message: dict[str, Any]) -> Any:
    body: str | bytes = message.get("body") or ""
    if message["properties"].get("body_encoding") == "base64":
        body = base64.b64decode(body)
    return json.loads(body) if body else None


def _problem_of_call(fields: dict[str, Any]) -> str | None:
    if problem := _wrong_field(fields, _HEADERS):
        return problem
    if not fields["id"].isprintable() or not fields["id"]:
        return "its id is empty, or not printable"
    limits = fields.get("timelimit")
    if limits is not None and not (len(limits) == _LIMITS and all(_is_limit(limit) for limit in limits)):
        return "timelimit must be two numbers of seconds, or nulls"
    return None


def _problem_of_arguments(parts: Any) -> str | None:
    """Celery unpacks the arguments before it looks at their types."""
    fits = isinstance(parts, list) and len(parts) == len(_ARGUMENTS)
    if not fits or not all(isinstance(part, kind) for part, kind in zip(parts, _ARGUMENTS, strict=True)):
        return "its body must be a list of positional arguments, keyword arguments and Celery's extras"
    return None


def _wrong_field(found: dict[str, Any], expected: dict[str, tuple[type, ...]]) -> str | None:
    """Return the first field of ``found`` that has none of the expected types; a missing field counts as null."""
    for name, kinds in expected.items():
        if not isinstance(found.get(name), kinds):
            given = type(found[name]).__name__ if name in found else "missing"
            return f"{name} is {given}, not {' or '.join(kind.__name__ for kind in kinds if kind is not _NONE)}"
    return None


def _is_limit(limit: object) -> bool:
    return limit is None or (isinstance(limit, int | float) and 0 <= limit < float("inf"))
