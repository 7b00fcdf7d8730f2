"""Responses in JSON: times in UTC with a Z, ids as text, and any value that a row may hold."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE = "application/json"


def to_json(value: Any) -> str:
    """Return ``value`` as JSON; other scripts are not escaped."""
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False)
    except ValueError:
        # Another program may insert 1e999, which Python reads as infinite. JSON has no number for that.
        return json.dumps(_finite(value), ensure_ascii=False, default=_plain)


def json_response(value: Any, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``value`` as a JSON response."""
    return text_response(to_json(value), status, headers)


def text_response(text: str, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response of a text that is JSON already."""
    # A column may hold bytes that are no text; as \\udcXX they are valid JSON.
    return Response(text.encode("utf-8", "backslashreplace"), status, dict(headers or {}), MEDIA_TYPE)


def moment(when: datetime | None) -> str | None:
    """Return a time in the form of every response."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z") if when is not None else None


def _finite(value: Any) -> Any:
    """Return ``value`` with infinities and NaN as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
