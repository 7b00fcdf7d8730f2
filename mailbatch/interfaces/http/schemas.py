"""What goes in and comes out, as the OpenAPI document tells it. Answers are made of rows and ``documents``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Pause, RunOutcome, Trigger

_ID = "01960d5e-8a3f-7c11-9b0e-5d2f8e4c7a10"
_RUN = "01960d5f-0b11-7d42-8f3a-6c1e9d2b4f77"
_TIME = "2026-12-24T09:00:00Z"


def _shape(example: dict[str, Any] | None = None) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]} if example else None)


_Paused: TypeAlias = Annotated[
    bool | Literal["ticks", "all"], Field(description="False, or what is paused. `pause` says the same as text only.")
]


class ReservationIn(BaseModel):
    """A mail to reserve: the columns of the table (docs/reference/table.md)."""

    model_config = _shape(
        {
            "recipients": "Ann Example <ann@example.com>",
            "subject": "Your order {{ number }}",
            "body_text": "Dear {{ name }}, it is on its way.",
            "context": {"name": "Ann", "number": 4711},
            "tag": "orders",
            "idempotency_key": "order-4711",
        }
    )
    recipients: str | list[str] = Field(description="An RFC 5322 address list, or a list of addresses.")
    subject: str | None = Field(None, description="A Jinja2 source, as the bodies are.")
    body_text: str | None = None
    body_html: str | None = None
    template: str | None = Field(None, description="A folder in TEMPLATE_DIR, in place of subject and bodies.")
    context: dict[str, Any] | None = None
    cc: str | list[str] | None = None
    bcc: str | list[str] | None = None
    sender: str | None = Field(None, description="The From address, in place of MAILBATCH_SENDER.")
    reply_to: str | list[str] | None = None
    headers: dict[str, str | list[str]] | None = Field(
        None, description="Further header fields, name to text; a list is several fields of that name."
    )
    scheduled_at: datetime | None = Field(None, description="When it is due, with its zone; default: now.")
    expires_at: datetime | None = Field(None, description="After this it is not sent any more.")
    priority: int = Field(0, ge=-(2**31), lt=2**31, description="Higher goes first.")
    idempotency_key: str | None = Field(None, max_length=255)
    tag: str | None = Field(None, max_length=255)
    id: UUID | None = None


class Reserved(BaseModel):
    """Where a mail is now."""

    model_config = _shape({"id": _ID, "new": True})
    id: UUID
    new: bool = Field(description="False: its idempotency key had stored it before.")
    warnings: list[str] | None = Field(
        None, description="Only if there are some: the template is not checked where `TEMPLATE_DIR` is not set."
    )


class Refused(BaseModel):
    """Why one of many was not reserved."""

    model_config = _shape({"problems": ["recipients: is empty; give at least one address"]})
    problems: list[str]


class ReservedMany(BaseModel):
    """What became of many mails; ``results`` in the order of the request."""

    model_config = _shape()
    reserved: int
    known: int = Field(description="Their idempotency keys had stored them before.")
    refused: int
    results: list[Reserved | Refused]


class Listed(BaseModel):
    """A reservation in a list: without its bodies."""

    model_config = _shape()
    id: UUID
    status: Status
    recipients: str
    subject: str | None
    template: str | None
    tag: str | None
    priority: int
    idempotency_key: str | None
    scheduled_at: datetime
    due_at: datetime | None
    expires_at: datetime | None
    attempts: int
    last_error: str | None
    reply_code: int | None
    reply_text: str | None
    relay: str | None
    run_id: UUID | None
    sent_at: datetime | None
    finished_at: datetime | None
    created_at: datetime


class ReservationPage(BaseModel):
    """A page of reservations."""

    model_config = _shape()
    items: list[Listed]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class Attempt(BaseModel):
    """A try that ended otherwise than accepted."""

    model_config = _shape()
    reservation_id: UUID
    claim_no: int
    run_id: UUID | None
    lane: int | None
    relay: str | None
    ended_at: datetime
    outcome: str
    reply_code: int | None
    enhanced_code: str | None
    reply_text: str | None
    verdicts: Any = None


class Full(Listed):
    """A reservation with all its columns, and its tries."""

    cc: str | None
    bcc: str | None
    sender: str | None
    reply_to: str | None
    body_text: str | None
    body_html: str | None
    context: Any
    headers: Any
    retry_at: datetime | None
    message_id: str | None
    claim_no: int
    lane: int | None
    item_index: int | None
    lease_until: datetime | None
    wire_at: datetime | None
    verdicts: Any
    mail_attempts: list[Attempt]


class Changed(BaseModel):
    """What became of one reservation."""

    model_config = _shape({"id": _ID, "done": True, "status": "cancelled", "answer": "cancelled"})
    id: UUID
    done: bool
    status: Status
    answer: str


class Explained(BaseModel):
    """Why a mail is where it is: a sentence first, then the facts."""

    model_config = _shape()
    id: UUID
    status: Status
    reason: str
    sentence: str
    advice: str
    facts: dict[str, Any]


class FilterIn(BaseModel):
    """Which reservations are meant; as the query of the list."""

    model_config = _shape({"status": "failed", "reply": "4xx", "since": "1h"})
    status: str | None = None
    tag: str | None = None
    to: str | None = None
    since: str | None = None
    until: str | None = None
    reply: str | None = None
    run: str | None = None


class BulkIn(BaseModel):
    """What to do to whom. Without ``confirm`` nothing is done: the answer says to how many it would be."""

    model_config = _shape({"filter": {"status": "failed", "reply": "4xx", "since": "1h"}})
    filter: FilterIn
    confirm: str | None = Field(None, max_length=2000, description="From the preview; good for five minutes.")


class BulkPreview(BaseModel):
    """What would be done."""

    model_config = _shape({"affects": 1204, "exact": True, "confirm": "eyJhY3Qi…"})
    affects: int
    exact: bool = Field(description="False: there may be more than were counted.")
    confirm: str = Field(description="Send it with the same filter within five minutes to have it done.")


class BulkDone(BaseModel):
    """What was done."""

    model_config = _shape({"changed": 1204, "left": {"pending": 3}})
    changed: int
    left: dict[str, int] = Field(
        description="Who was left alone, by state: they had moved on meanwhile, or are overdue."
    )


class Run(BaseModel):
    """A run of a batch."""

    model_config = _shape(
        {
            "run_id": _RUN,
            "trigger": "beat",
            "outcome": "completed",
            "started_at": _TIME,
            "finished_at": "2026-12-24T09:00:41Z",
            "duration": 41.2,
            "sent": 9990,
            "failed": 8,
            "deferred": 2,
            "in_doubt": 0,
            "expired": 0,
            "remaining": 0,
            "running": False,
        }
    )
    run_id: UUID
    trigger: Trigger
    outcome: RunOutcome | None = Field(
        description="Null while it goes on, and while nobody has closed the row of one that died."
    )
    started_at: datetime
    finished_at: datetime | None
    duration: float | None = Field(description="Seconds.")
    sent: int
    failed: int
    deferred: int
    in_doubt: int
    expired: int
    remaining: int
    running: bool = Field(description="It has no end, and has given a sign of life lately.")


class RunPage(BaseModel):
    """A page of runs, newest first."""

    model_config = _shape()
    items: list[Run]
    next: str | None


class ErrorGroup(BaseModel):
    """Tries of one run that ended alike."""

    model_config = _shape()
    outcome: str
    reply_code: int | None
    enhanced_code: str | None
    count: int
    example: str | None


class ItemError(BaseModel):
    """What went wrong with one item; its errors in full, addresses and all."""

    model_config = _shape({"index": 12, "reservation_id": _ID, "errors": ["550 5.1.1 no such user"]})
    index: int
    reservation_id: UUID | None
    errors: list[str]


class RunFull(Run):
    """A run, with its errors by kind and the first of them."""

    model_config = _shape()
    job: str
    bound: int
    error: str | None
    host: str | None
    pid: int | None
    heartbeat_at: datetime
    error_groups: list[ErrorGroup]
    errors: list[ItemError] = Field(description="The first hundred; the others are at /api/runs/{run_id}/errors.")


class Stopping(BaseModel):
    """A run that was told to stop."""

    model_config = _shape({"run_id": _RUN, "job": "send-all", "stopping": True, "alive": True})
    run_id: UUID
    job: str
    stopping: bool
    alive: bool = Field(description="False: its process is silent; the next run takes over.")


class ErrorPage(BaseModel):
    """A page of the errors of a run."""

    model_config = _shape()
    items: list[ItemError]
    next: str | None


class Report(BaseModel):
    """What ``send-all`` answers (docs/reference/reports.md)."""

    model_config = _shape()
    run_id: UUID | None
    trigger: Trigger
    outcome: RunOutcome
    sent: int
    failed: int
    deferred: int
    in_doubt: int
    expired: int
    remaining: int
    duration: float
    bound: int
    errors: list[str]


class Queued(BaseModel):
    """A run that was asked for, and has not ended yet."""

    model_config = _shape({"task_id": "6f0d2a55-6a6e-4b6a-8b55-0d5f0f5b7a51"})
    task_id: str


class Relay(BaseModel):
    """What is known of the relay."""

    model_config = _shape()
    name: str
    state: CircuitState
    until: datetime | None
    reason: str | None


class Warned(BaseModel):
    """What the watch found."""

    model_config = _shape()
    name: str
    level: str
    what: str
    since: datetime | None
    advice: str


class Progress(BaseModel):
    """How far the run is that goes on."""

    model_config = _shape()
    run_id: UUID | None = Field(description="Null for a moment, while it begins.")
    trigger: Trigger | None = Field(description="Null as long as the id is.")
    sent: int
    failed: int
    deferred: int
    in_doubt: int
    expired: int
    state: Literal["running"]
    elapsed: float = Field(description="Seconds since it began.")
    done: int = Field(description="Mails that it has dealt with.")
    whole: int = Field(description="These, and those that are due or under way.")
    rate: float | None = Field(
        description="Mails a second since it began; null at its beginning, and while nobody is answered."
    )
    seconds_left: float | None = Field(description="How long it still takes at that rate.")


class Standing(BaseModel):
    """How things stand."""

    model_config = _shape()
    paused: _Paused
    pause: Pause
    running: bool
    progress: Progress | None
    next_run_at: datetime | None
    last_run: Run | None
    reservations: dict[str, int]
    exact: bool
    due: int
    oldest_due_seconds: float | None
    under_way: int = Field(
        description="Mails that a run has claimed and that have no answer yet. `due` leaves them out."
    )
    unanswered_seconds: float | None = Field(
        description="For how long a run has had mails under way and nobody was answered; null if there is no such run."
    )
    relay: Relay | None
    warnings: list[Warned]
    down: list[str] = Field(description="What could not be asked: `redis`.")


class PauseIn(BaseModel):
    """What to suspend."""

    model_config = _shape({"all": False})
    all: bool = Field(False, description="Also stop the run in progress, and refuse calls by hand.")


class Paused(BaseModel):
    """What is suspended now."""

    model_config = _shape({"paused": "ticks", "pause": "ticks"})
    paused: _Paused
    pause: Pause


class Running(BaseModel):
    """Whether a run goes on, and which."""

    model_config = _shape({"running": True, "run_id": _RUN, "paused": False, "pause": "none"})
    running: bool
    run_id: UUID | None
    paused: _Paused
    pause: Pause


class PreviewIn(BaseModel):
    """A mail to see rendered: a template or sources, and what fills them."""

    model_config = _shape(
        {"subject": "Hello {{ name }}", "body_text": "Dear {{ name }}, …", "context": {"name": "Ann"}}
    )
    template: str | None = None
    subject: str | None = None
    body_text: str | None = None
    body_html: str | None = None
    context: dict[str, Any] | None = None


class Rendered(BaseModel):
    """A mail as its templates make it."""

    model_config = _shape({"subject": "Hello Ann", "text": "Dear Ann, …", "html": "<p>Dear Ann, …</p>"})
    subject: str
    text: str | None
    html: str | None


class TrialIn(PreviewIn):
    """A mail to send once, to try it."""

    model_config = _shape({"to": "me@example.com", "template": "order-confirmation", "context": {"name": "Ann"}})
    to: str = Field(description="An address of your own.")
    sender: str | None = None


class Tried(BaseModel):
    """What the relay made of it."""

    model_config = _shape({"outcome": "sent", "relay": "mx.example.com:587", "reply": "250 2.0.0 OK queued as 4F2"})
    outcome: Literal["sent", "deferred", "failed", "in_doubt", "relay_fault"]
    relay: str | None
    reply: str


class Action(BaseModel):
    """What somebody did."""

    model_config = _shape()
    id: UUID
    at: datetime
    actor: str
    action: str
    target: dict[str, Any] | None
    affected: int | None
    outcome: str


class ActionPage(BaseModel):
    """A page of actions, newest first."""

    model_config = _shape()
    items: list[Action]
    next: str | None


class ProblemDocument(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:mailbatch:problem:conflict",
                    "title": "Conflict",
                    "status": 409,
                    "detail": "too late: it is sending",
                    "request_id": "01960d60-1f2e-7b55-a1c0-2d9e8f7a6b5c",
                }
            ]
        },
    )
    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    problems: list[str] | None = None
