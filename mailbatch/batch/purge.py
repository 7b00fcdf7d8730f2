"""``purge``: the batch that removes finished reservations after their time of retention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.batch.job import Job, make_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports import Run
    from mailbatch.bootstrap import Parts

NAME = "purge"


class PurgeBatch:
    """The work of a run of ``purge``. ``page`` removes one page and answers how many reservations it held."""

    def __init__(self, page: Callable[[], int]) -> None:
        self._page = page

    def __call__(self, run: Run) -> None:
        """Remove page after page until one is empty or the run must stop."""
        while run.stop.reason() is None and self._page():
            pass


def purge(parts: Parts) -> Job:
    """The job ``purge``; it does nothing while RETENTION_DAYS is 0."""
    return make_job(parts, NAME, PurgeBatch(parts.purge_page))
