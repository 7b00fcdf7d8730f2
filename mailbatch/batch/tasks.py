"""The Celery tasks: a name, a decorator, one call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import shared_task
from kombu.exceptions import OperationalError

from mailbatch.batch.app import ensure_same_database
from mailbatch.batch.lanes import send_lane as run_helper
from mailbatch.batch.purge import purge as purge_job
from mailbatch.batch.running import broken_in_a_line, run_in_task
from mailbatch.batch.send_all import send_all as send_all_job
from mailbatch.batch.stop.task import stop_reason
from mailbatch.bootstrap import process_parts
from mailbatch.domain.errors import JobExecError
from mailbatch.domain.job_name import PURGE, SEND_ALL, SEND_LANE
from mailbatch.domain.redaction.lines import one_line

if TYPE_CHECKING:
    from celery import Task

log = logging.getLogger(__name__)

HELPER_EXPIRES = 600
"""Seconds for which a helper may wait for a free worker."""


@shared_task(name=SEND_ALL, bind=True, throws=(JobExecError,))
def send_all(self: Task, *, trigger: str = "manual") -> dict[str, Any]:
    """Send what is due; returns the run report (docs/reference/reports.md)."""
    return run_in_task(self, lambda parts: send_all_job(parts, call_helper=_call_helper), trigger)


@shared_task(name=SEND_LANE, bind=True, ignore_result=True, throws=(JobExecError,))
def send_lane(self: Task, *, run_id: str, lane: int) -> dict[str, Any]:
    """Help with a run of ``send-all``; queued by it when LANES is above 1."""
    request = self.request
    stop_reason(request)
    with broken_in_a_line():
        ensure_same_database(request, process_parts().identify)
    return run_helper(process_parts(), UUID(run_id), lane, lambda: stop_reason(request))


def _call_helper(run_id: UUID, lane: int) -> None:
    """Queue a helper; it expires because a late one is not needed. Without a broker there is no helper."""
    try:
        send_lane.apply_async(kwargs={"run_id": str(run_id), "lane": lane}, expires=HELPER_EXPIRES)
    except OperationalError as error:
        log.warning("no helper can be called for lane %d, the others do its work: %s", lane, one_line(str(error)))


@shared_task(name=PURGE, bind=True, throws=(JobExecError,))
def purge(self: Task, *, trigger: str = "manual") -> dict[str, Any]:
    """Remove finished reservations older than RETENTION_DAYS; returns the run report."""
    return run_in_task(self, purge_job, trigger)
