"""The rows of the tables as everybody reads them: one class for each use, its fields named as the columns.

Other programs write rows too. A value that cannot be read as the type of its field comes as the nearest one that can:
a year before 1970 as 1970, a text in place of a number as 0. Only an id that is no UUID comes as its text (SQLite).
Above 300 lines because it is one list: a line for each column that is read.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mailbatch.domain.claimed import ClaimedMail
from mailbatch.domain.message import Claim
from mailbatch.domain.message_id import own_message_id
from mailbatch.domain.message_subject import own_subject
from mailbatch.domain.reservation import MAIL_FIELDS, Mail, Status
from mailbatch.domain.run import RunOutcome, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from uuid import UUID

    from mailbatch.domain.outcome import Verdict


@dataclass(frozen=True, slots=True)
class Row:
    """What is read of one row. ``ENUMS``: the columns whose text is a member of an enum."""

    ENUMS: ClassVar[Mapping[str, Callable[[str], Any]]] = {}

    @classmethod
    def from_row(cls, found: Mapping[Any, Any]) -> Self:
        """Make one from ``found``, which maps columns to values; columns that are no field do not matter."""
        values = {name: found[name] for name in names_of(cls)}
        enums = {name: enum(values[name]) for name, enum in cls.ENUMS.items() if values[name] is not None}
        return cls(**values | enums)


def names_of(kind: type[Row]) -> tuple[str, ...]:
    """Return the columns that a row of ``kind`` has."""
    return tuple(field.name for field in fields(kind))


def as_dict(row: Row) -> dict[str, Any]:
    """Return the values of ``row`` by column. They are not copied: one may be nested too deeply for that."""
    return {name: getattr(row, name) for name in names_of(type(row))}


@dataclass(frozen=True, kw_only=True)
class _OfReservation(Row):
    ENUMS: ClassVar = {"status": Status}

    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationPlace(_OfReservation):
    """The place of a reservation in a list: what a list needs to go on behind it."""

    id: UUID
    status: Status
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, row: ReservationSummary | ReservationRow) -> Self:
        """Return the place of ``row``."""
        return cls(id=row.id, status=row.status, created_at=row.created_at, finished_at=row.finished_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationSummary(_OfReservation):
    """What lists show of a reservation: no bodies, no context.

    ``has_attachments``, ``has_message``: that column is not null.
    """

    id: UUID
    status: Status
    recipients: str
    subject: str | None
    template: str | None
    tag: str | None
    priority: int
    idempotency_key: str | None
    scheduled_at: datetime
    due_at: datetime
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
    has_attachments: bool
    has_message: bool

    @property
    def shown_subject(self) -> str:
        """The subject as it is stored, or the name of the template, whose subject is not known before it is rendered.

        For a finished message it is the Subject that ``with_subject_of`` has found in it.
        """
        instead = f"template {self.template}" if self.template else "finished message" if self.has_message else ""
        return self.subject or instead

    def with_subject_of(self, message: bytes) -> Self:
        """Return the row with the Subject of its finished ``message``, of which the beginning is enough."""
        return replace(self, subject=own_subject(message) or self.subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationContext(Row):
    """What a template needs beside its name."""

    id: UUID
    context: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRow(Mail, _OfReservation):
    """All columns of ``mail_reservations``, the mail's first; docs/reference/table.md says what each means."""

    scheduled_at: datetime
    expires_at: datetime | None
    priority: int
    idempotency_key: str | None
    tag: str | None
    status: Status
    attempts: int
    retry_at: datetime | None
    due_at: datetime
    last_error: str | None
    message_id: str | None
    sent_at: datetime | None
    finished_at: datetime | None
    claim_no: int
    run_id: UUID | None
    lane: int | None
    item_index: int | None
    lease_until: datetime | None
    wire_at: datetime | None
    reply_code: int | None
    reply_text: str | None
    relay: str | None
    verdicts: Mapping[str, Mapping[str, Any]] | None
    created_at: datetime
    waits_for: str | None

    @property
    def mail(self) -> Mail:
        """What is to be sent."""
        return Mail(**{name: getattr(self, name) for name in MAIL_FIELDS})

    def with_message_id_of(self, message: bytes) -> Self:
        """Return the row with the Message-ID that its finished ``message`` has, and goes out with.

        After a plain INSERT the claim has written another one into the column: SQL cannot read the message.
        """
        own = own_message_id(message)
        return replace(self, message_id=own) if own is not None and own != self.message_id else self

    def as_claimed(self, index: int, earlier: Mapping[str, Verdict]) -> ClaimedMail:
        """Return the mail as a composer takes it, though nobody has claimed it.

        A mail gets its Message-ID when it is claimed for the first time: before that it has one that nobody sends.
        """
        return ClaimedMail(
            claim=Claim(self.id, self.claim_no),
            index=index,
            mail=self.mail,
            message_id=self.message_id or f"<{self.id}@mailbatch.invalid>",
            attempts=self.attempts,
            earlier=earlier,
            tag=self.tag,
            priority=self.priority,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile(Row):
    """What is known of a file that mails share, without its content. ``id``: the SHA-256 of that; ``size`` in bytes."""

    id: str
    filename: str | None
    content_type: str | None
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow(Row):
    """A send attempt that ended otherwise than accepted. The accepted one stands on its reservation."""

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
    verdicts: Mapping[str, Mapping[str, Any]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateRow(Row):
    """A mail that went out again after an attempt without a verdict: somebody may have got it twice.

    ``sent_at``: when it went out again, with a verdict or without.
    """

    reservation_id: UUID
    recipients: str
    message_id: str | None
    doubt_at: datetime
    doubt_relay: str | None
    doubt_run_id: UUID | None
    sent_at: datetime | None
    relay: str | None
    reply_text: str | None
    run_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlace(Row):
    """The place of a run in a list."""

    started_at: datetime
    run_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow(Row):
    """All columns of ``batch_runs``. ``silent``: seconds since its last heartbeat."""

    ENUMS: ClassVar = {"trigger": Trigger, "outcome": RunOutcome}

    run_id: UUID
    job: str
    trigger: Trigger
    outcome: RunOutcome | None
    started_at: datetime
    heartbeat_at: datetime
    finished_at: datetime | None
    duration: float | None
    sent: int
    failed: int
    deferred: int
    in_doubt: int
    expired: int
    remaining: int
    bound: int
    claimed: int
    stop: str | None
    error: str | None
    host: str | None
    pid: int | None
    held_back: int
    silent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPlace(Row):
    """The place of an item's error in the report of its run."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRow(Row):
    """The signs of life of a helper of a run, and the error with which it ended."""

    run_id: UUID
    lane: int
    heartbeat_at: datetime
    left_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow(Row):
    """A blocked tag: since when, by whom, and why. ``waiting``: how many mails it holds back, up to a bound."""

    tag: str
    since: datetime
    by: str
    note: str | None
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionPlace(Row):
    """The place of an action in the audit log."""

    at: datetime
    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRow(Row):
    """What an operator did. ``target`` holds ids and filters, never contents or addresses."""

    id: UUID
    at: datetime
    actor: str
    action: str
    target: Mapping[str, Any] | None
    affected: int | None
    outcome: str
