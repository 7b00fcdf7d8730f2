"""The schemas of ``/api/reservations``. Responses are made of rows and of ``interfaces/documents.py``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from mailbatch.domain.reservation import Status
from mailbatch.interfaces.http.schema import EXAMPLE_ID, shape


class AttachmentIn(BaseModel):
    """A file of a mail: one of ``path``, ``file`` and ``content``, and how the mail names it."""

    model_config = shape({"content": "SGVsbG8=", "filename": "hello.txt"})
    path: str | None = Field(None, description="A path below MAILBATCH_ATTACHMENT_DIR.")
    file: str | None = Field(
        None, pattern="^([0-9a-f]{64})?$", description="The id that `POST /api/files` has returned."
    )
    content: str | None = Field(None, description="The bytes in base64; at most MAILBATCH_MAX_INLINE_BYTES bytes.")
    filename: str | None = Field(None, description="Its name for the recipient. `content` needs one.")
    content_type: str | None = Field(None, description="Default: by the end of the name.")
    content_id: str | None = Field(None, description="The HTML shows the file as `cid:` and this id.")


class ReservationIn(BaseModel):
    """A mail to reserve: the columns of the table (docs/reference/table.md)."""

    model_config = shape(
        {
            "recipients": "Ann Example <ann@example.com>",
            "subject": "Your order {{ number }}",
            "body_text": "Dear {{ name }}, it is on its way.",
            "context": {"name": "Ann", "number": 4711},
            "tag": "orders",
            "idempotency_key": "order-4711",
        }
    )
    recipients: str | list[str] | None = Field(
        None,
        description="An RFC 5322 address list, or a list of addresses. Only with `message` it may be left out: then "
        "the mail goes to the To, Cc and Bcc of the message.",
    )
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
    attachments: list[AttachmentIn | str] | None = Field(None, max_length=100, description="A text is a `path`.")
    message: str | None = Field(
        None, description="A finished message (RFC 5322) in base64, in place of subject, bodies and header fields."
    )
    envelope_sender: str | None = Field(
        None, description="Where bounces go, in place of MAILBATCH_RETURN_PATH; `<>` for no bounces."
    )
    locale: str | None = Field(None, description="The language of the template: a tag of BCP 47, such as `pt-BR`.")
    scheduled_at: datetime | None = Field(None, description="When it is due, with its zone; default: now.")
    expires_at: datetime | None = Field(None, description="After this time it is not sent.")
    priority: int = Field(0, ge=-(2**31), lt=2**31, description="Higher goes first.")
    idempotency_key: str | None = Field(None, max_length=255)
    tag: str | None = Field(None, max_length=255)
    id: UUID | None = None


_BESIDE_MESSAGE = (
    *("recipients", "envelope_sender", "scheduled_at", "expires_at"),
    *("priority", "idempotency_key", "tag", "id"),
)
BESIDE_MESSAGE = [
    {
        "name": name,
        "in": "query",
        "required": False,
        "schema": {"type": "string"},
        "description": f"Only with a body of the type message/rfc822: the column `{name}`.",
    }
    for name in _BESIDE_MESSAGE
]
"""The parameters of the query beside a finished message."""


class Reserved(BaseModel):
    """The result of reserving one mail."""

    model_config = shape({"id": EXAMPLE_ID, "new": True})
    id: UUID
    new: bool = Field(description="False: its idempotency key stored it before.")
    warnings: list[str] | None = Field(
        None,
        description="Only if there are warnings: the template shows an image that is not there, or it is not "
        "checked, because there is no `TEMPLATE_DIR`.",
    )


class Refused(BaseModel):
    """Why one of many was not reserved."""

    model_config = shape({"problems": ["recipients: is empty; give at least one address"]})
    problems: list[str]


class ReservedMany(BaseModel):
    """The results of reserving many mails, in the order of the request."""

    model_config = shape()
    reserved: int
    known: int = Field(description="Their idempotency keys stored them before.")
    refused: int
    results: list[Reserved | Refused]


class Reservation(BaseModel):
    """What lists and the page of one reservation have in common."""

    model_config = shape()
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
    envelope_sender: str | None
    locale: str | None


class Listed(Reservation):
    """A reservation in a list, without its bodies and files."""

    has_attachments: bool = Field(description="The column `attachments` is not null.")
    has_message: bool = Field(description="It is a finished message.")


class ReservationPage(BaseModel):
    """A page of reservations."""

    model_config = shape()
    items: list[Listed]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class Attempt(BaseModel):
    """An attempt that was not accepted."""

    model_config = shape()
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


class File(BaseModel):
    """A file of a mail, without its content."""

    model_config = shape(
        {
            "source": "path",
            "named": "2026/invoice-17.pdf",
            "filename": "invoice-17.pdf",
            "content_type": "application/pdf",
            "content_id": "invoice",
            "size": 48211,
            "problems": [],
        }
    )
    source: Literal["path", "file", "content"] = Field(description="Where it is, as in `attachments`.")
    named: str | None = Field(description="The path, or the id of the stored file; null for `content`.")
    filename: str = Field(description="The name that the recipient sees.")
    content_type: str
    content_id: str | None
    size: int | None = Field(description="In bytes; null if it is not known.")
    problems: list[str] = Field(description="Why the mail cannot be sent with it.")


class FinishedMessage(BaseModel):
    """A finished message: how many bytes it has."""

    model_config = shape({"size": 20480})
    size: int


SERVED_IN = "The languages of the template's files from which it is made, after the fallback."
RETURNS_TO = (
    "The envelope sender with which it goes out: `envelope_sender`, MAILBATCH_RETURN_PATH or its From; "
    "`<>` for none, null if it cannot be known."
)


class Full(Reservation):
    """A reservation with all its columns and its attempts."""

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
    waits_for: str | None = Field(description="Why it is held back although it is due; null if it is not.")
    attachments: Any
    message: FinishedMessage | None
    files: list[File] = Field(description="The files of `attachments`; entries that are no file are left out.")
    served_in: list[str] = Field(description=SERVED_IN)
    returns_to: str | None = Field(description=RETURNS_TO)
    mail_attempts: list[Attempt]


class Changed(BaseModel):
    """The result of an act on one reservation."""

    model_config = shape({"id": EXAMPLE_ID, "done": True, "status": "cancelled", "answer": "cancelled"})
    id: UUID
    done: bool
    status: Status
    answer: str


class Explained(BaseModel):
    """Why a mail was not sent yet, or how it ended: a sentence, then the facts."""

    model_config = shape()
    id: UUID
    status: Status
    reason: str
    sentence: str
    advice: str
    facts: dict[str, Any]
