"""``purge``: the batch that removes finished reservations when their retention time is over."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mailbatch.batch.job import Job, make_job
from mailbatch.domain.job_name import PURGE

if TYPE_CHECKING:
    from mailbatch.application.acting.purge import Purge
    from mailbatch.application.ports.runs import Run
    from mailbatch.bootstrap import Parts

log = logging.getLogger(__name__)

DAY = 86_400.0


class PurgeBatch:
    """The work of a run of ``purge``. ``older_than`` in seconds."""

    def __init__(self, purge: Purge, older_than: float) -> None:
        self._purge = purge
        self._older_than = older_than

    def __call__(self, run: Run) -> None:
        """Remove page after page until one is not full or the run must stop."""
        deleted = self._purge(self._older_than, lambda _deleted: run.stop.reason() is None)
        log.info("%d finished reservations were removed", deleted)


def purge(parts: Parts) -> Job:
    """Return the job ``purge``; while RETENTION_DAYS is 0 it removes nothing."""
    days = parts.settings.retention_days
    work = PurgeBatch(parts.acting.purge, days * DAY) if days else _keep_everything
    return make_job(parts, PURGE, work)


def _keep_everything(_run: Run) -> None:
    log.info("RETENTION_DAYS is 0: nothing is removed")
