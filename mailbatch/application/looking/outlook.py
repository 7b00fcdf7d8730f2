"""When mail is likely to go: by the rate of the run that is in progress, or else by that of the last runs.

It knows nothing of what comes in meanwhile with a higher priority, of a pause, or of a relay that gets slower.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mailbatch.application.looking.inquire import progress_of
from mailbatch.domain.run import RunOutcome

if TYPE_CHECKING:
    from datetime import datetime

    from mailbatch.application.looking.job_snapshot import JobSnapshot
    from mailbatch.application.ports.reports import Reports

_RUNS_TO_JUDGE_BY = 20
_ENOUGH_TO_JUDGE = 50
"""Mails that a run must have sent before its rate counts."""
_FARTHEST = timedelta(days=365)
"""A time that is farther away says nothing."""


def rate_of_last_runs(reports: Reports, job: str) -> float | None:
    """Return the mails a second of the last runs of ``job`` that had enough to do; None without such a run."""
    runs = [
        run
        for run in reports.runs(job, _RUNS_TO_JUDGE_BY)
        if run.outcome is RunOutcome.COMPLETED and run.sent >= _ENOUGH_TO_JUDGE and run.duration
    ]
    seconds = sum(run.duration or 0.0 for run in runs)
    return sum(run.sent for run in runs) / seconds if seconds else None


def likely_end(reports: Reports, job: str, snapshot: JobSnapshot, mails: int) -> datetime | None:
    """Return when ``mails`` that are due have gone, from now or from the next run on; None if that is not known."""
    if snapshot.running:
        run = reports.run(snapshot.run_id) if snapshot.run_id is not None else None
        return _after(snapshot.health.now, progress_of(snapshot, run, None, mails).seconds_left)
    begin, rate = snapshot.next_run.to_come, rate_of_last_runs(reports, job)
    return _after(begin, mails / rate if rate else None) if begin is not None else None


def _after(begin: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None or seconds > _FARTHEST.total_seconds() else begin + timedelta(seconds=seconds)
