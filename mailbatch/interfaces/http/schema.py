"""What the schemas of the OpenAPI document have in common."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

EXAMPLE_ID = "01960d5e-8a3f-7c11-9b0e-5d2f8e4c7a10"
EXAMPLE_RUN = "01960d5f-0b11-7d42-8f3a-6c1e9d2b4f77"
EXAMPLE_TIME = "2026-12-24T09:00:00Z"


def shape(example: dict[str, Any] | None = None) -> ConfigDict:
    """Return the configuration of a schema that has no other fields than its own, with an example of it."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]} if example else None)
