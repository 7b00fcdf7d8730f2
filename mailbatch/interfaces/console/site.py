"""The routers of the console's pages, in the order in which FastAPI matches them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.interfaces.console import (
    bulk,
    duplicates,
    files,
    overview,
    reference,
    reservations,
    runs,
    schedule,
    template_pages,
)

if TYPE_CHECKING:
    from fastapi import APIRouter

ROUTERS: list[APIRouter] = [
    overview.router,
    reservations.router,
    bulk.router,
    runs.router,
    schedule.router,
    template_pages.router,
    duplicates.router,
    reference.router,
    files.router,
]
