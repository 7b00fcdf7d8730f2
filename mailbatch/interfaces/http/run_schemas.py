"""The schemas of ``/api/runs`` and ``/api/run-now``."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from mailbatch.domain.run import RunOutcome, Trigger
from mailbatch.interfaces.http.schema import EXAMPLE_ID, EXAMPLE_RUN, EXAMPLE_TIME, shape


class Run(BaseModel):
    """A run of a batch."""

    model_config = shape(
        {
            "run_id": EXAMPLE_RUN,
            "trigger": "beat",
            "outcome": "completed",
            "started_at": EXAMPLE_TIME,
            "finished_at": "2026-12-24T09:00:41Z",
            "duration": 41.2,
            "sent": 9990,
            "failed": 8,
            "deferred": 2,
            "in_doubt": 0,
            "expired": 0,
            "held_back": 0,
            "remaining": 0,
            "running": False,
        }
    )
    run_id: UUID
    trigger: Trigger
    outcome: RunOutcome | None = Field(
        description="Null while the run is in progress, and for a run that died until another run closes its row."
    )
    started_at: datetime
    finished_at: datetime | None
    duration: float | None = Field(description="Seconds.")
    sent: int
    failed: int
    deferred: int
    in_doubt: int
    expired: int
    held_back: int = Field(description="Mails that a gate lets go only later: they are part of `remaining`.")
    remaining: int
    running: bool = Field(description="It has not ended, and its heartbeat is recent.")


class RunPage(BaseModel):
    """A page of runs, newest first."""

    model_config = shape()
    items: list[Run]
    next: str | None


class ErrorGroup(BaseModel):
    """Attempts of one run with the same result."""

    model_config = shape()
    outcome: str
    reply_code: int | None
    enhanced_code: str | None
    count: int
    example: str | None


class ItemError(BaseModel):
    """The errors of one item, in full, with addresses."""

    model_config = shape({"index": 12, "reservation_id": EXAMPLE_ID, "errors": ["550 5.1.1 no such user"]})
    index: int
    reservation_id: UUID | None
    errors: list[str]


class RunFull(Run):
    """A run with its errors by kind, and the first of them."""

    model_config = shape()
    job: str
    bound: int
    error: str | None
    host: str | None
    pid: int | None
    heartbeat_at: datetime
    error_groups: list[ErrorGroup]
    errors: list[ItemError] = Field(description="The first hundred; all are at /api/runs/{run_id}/errors.")


class Stopping(BaseModel):
    """A run that was told to stop."""

    model_config = shape({"run_id": EXAMPLE_RUN, "job": "send-all", "stopping": True, "alive": True})
    run_id: UUID
    job: str
    stopping: bool
    alive: bool = Field(description="False: its process is silent; the next run takes over.")


class ErrorPage(BaseModel):
    """A page of the errors of a run."""

    model_config = shape()
    items: list[ItemError]
    next: str | None


class Report(BaseModel):
    """The report that ``send-all`` returns (docs/reference/reports.md)."""

    model_config = shape()
    run_id: UUID | None
    trigger: Trigger
    outcome: RunOutcome
    sent: int
    failed: int
    deferred: int
    in_doubt: int
    expired: int
    held_back: int = Field(description="Mails that a gate lets go only later: they are part of `remaining`.")
    remaining: int
    duration: float
    bound: int
    errors: list[str]


class Queued(BaseModel):
    """A run that is queued or in progress."""

    model_config = shape({"task_id": "6f0d2a55-6a6e-4b6a-8b55-0d5f0f5b7a51"})
    task_id: str
