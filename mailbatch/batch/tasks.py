"""The Celery tasks: a name, a decorator, one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import shared_task

from mailbatch.batch.purge import purge as purge_job
from mailbatch.batch.running import run_in_task
from mailbatch.batch.send_all import send_all as send_all_job

if TYPE_CHECKING:
    from celery import Task


@shared_task(name="send-all", bind=True)
def send_all(self: Task, *, trigger: str = "manual") -> dict[str, Any]:
    """Send what is due; the run report (docs/reference/reports.md)."""
    return run_in_task(self, send_all_job, trigger)


@shared_task(name="purge", bind=True)
def purge(self: Task, *, trigger: str = "manual") -> dict[str, Any]:
    """Remove finished reservations older than RETENTION_DAYS; the run report."""
    return run_in_task(self, purge_job, trigger)
