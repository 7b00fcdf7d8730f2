"""A reservation: a mail, when it is due, and its state."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mailbatch.domain.checks import context_problems, line_problems, text_problems, time_problems
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.limits import LONGEST_KEY, PRIORITIES
from mailbatch.domain.locale import locale_problem
from mailbatch.domain.own_headers import own_header_problem
from mailbatch.domain.redaction.lines import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.domain.content import Content


class Status(StrEnum):
    """Where a reservation stands. The way from one to the next is drawn in docs/reference/states.md."""

    PENDING = "pending"
    """Waits until it is due, and then for a run."""
    SENDING = "sending"
    """Claimed by a lane under a lease: its bytes may be on the wire."""
    SENT = "sent"
    """The relay answered 250 to every recipient."""
    FAILED = "failed"
    """Refused for good, could not be composed, or all its attempts are used up."""
    CANCELLED = "cancelled"
    """Taken back before it was claimed."""
    EXPIRED = "expired"
    """Its ``expires_at`` (or the greatest lateness allowed) passed before it was claimed."""
    IN_DOUBT = "in_doubt"
    """Its bytes went out and no verdict came back: only an operator, or a late verdict, can tell."""


FINISHED = frozenset({Status.SENT, Status.FAILED, Status.CANCELLED, Status.EXPIRED})
"""States that nothing will change by itself, and that ``purge`` may remove."""

EMPTY_MESSAGE = "message: is empty; give a message with a header (RFC 5322)"
# RFC 5322 §2.2: a header name is printable ASCII without the colon.
_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")
_ONE_LINE = ("recipients", "cc", "bcc", "sender", "reply_to", "template", "envelope_sender")
_NOT_BESIDE_MESSAGE = {
    **dict.fromkeys(("cc", "bcc"), "name every recipient in recipients"),
    **dict.fromkeys(("sender", "reply_to", "subject", "headers"), "write it into the header of the message"),
    **dict.fromkeys(("body_text", "body_html", "attachments"), "write it into the message"),
    **dict.fromkeys(("template", "context", "locale"), "a finished message is not rendered"),
}
_MAY_BE_EMPTY = (
    *("subject", "body_text", "body_html", "template", "cc", "bcc", "sender", "reply_to"),
    *("attachments", "message", "envelope_sender", "locale"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What is to be sent, as the caller wrote it: address lists are RFC 5322 text, bodies may be Jinja2 sources.

    ``attachments``: the JSON of that column. ``message``: a finished message (RFC 5322) in place of subject and bodies;
    a large one is read in pieces. ``envelope_sender``: an address, or ``<>``. ``locale``: a language (BCP 47).

    Making one checks nothing; ``problems`` tells what is wrong with it, without asking a library or the network.
    """

    recipients: str
    cc: str | None = None
    bcc: str | None = None
    sender: str | None = None
    reply_to: str | None = None
    subject: str | None = None
    body_text: str | None = None
    body_html: str | None = None
    template: str | None = None
    context: Mapping[str, Any] | None = None
    headers: Mapping[str, Any] | None = None
    attachments: Sequence[Mapping[str, Any]] | None = None
    message: bytes | Content | None = None
    envelope_sender: str | None = None
    locale: str | None = None

    def problems(self) -> Iterator[str]:
        """Yield one line, beginning with the field's name, for each thing that no composer could mend."""
        if not self.recipients.strip():
            yield "recipients: is empty; give at least one address"
        if not self.template and self.message is None:
            if self.subject is None:
                yield "subject: is missing; give one, or a template"
            if self.body_text is None and self.body_html is None:
                yield "body_text: is missing; give body_text, body_html or a template"
        yield from problems_beside_message(self)
        for name in _ONE_LINE:
            yield from line_problems(name, getattr(self, name))
        # Line breaks inside a subject's *source* may belong to a template tag; the rendered one is checked again.
        for name in ("subject", "body_text", "body_html"):
            yield from text_problems(name, getattr(self, name))
        if self.subject is not None and self.context is None and "{" not in self.subject:
            yield from (p for p in line_problems("subject", self.subject) if "NUL" not in p and "surrogate" not in p)
        if self.locale and (problem := locale_problem(self.locale)):
            yield problem
        yield from header_problems(self.headers)
        yield from context_problems(self.context)


def problems_beside_message(mail: Mail) -> Iterator[str]:
    """Yield a line for each column that a mail with a finished message may not have."""
    if mail.message:
        for name, instead in _NOT_BESIDE_MESSAGE.items():
            if getattr(mail, name):
                yield f"{name}: does not go with message; {instead}"


def empty_message_problem(mail: Mail) -> str | None:
    """Return the line of a mail that was to be a finished message, is empty, and has nothing in its place, or None."""
    if mail.message is None or mail.message or mail.template or mail.subject or mail.body_text or mail.body_html:
        return None
    return EMPTY_MESSAGE


def without_empty(mail: Mail) -> Mail:
    """Return ``mail`` with None in place of empty texts, which mean that nothing is given.

    Without a template the subject and the only body may be empty: the mail goes out so.
    """
    empty = {name for name in _MAY_BE_EMPTY if (value := getattr(mail, name)) is not None and not value}
    if not mail.template and not mail.message:
        empty.discard("subject")
        if not mail.body_html:
            empty.discard("body_text")
        elif mail.body_text is None:
            empty.discard("body_html")
    nothing: dict[str, Any] = dict.fromkeys(empty)
    return replace(mail, **nothing) if empty else mail


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A mail, and when it is to go.

    Times must know their zone; ``scheduled_at=None`` means at once, by the database's clock. ``message_id``: that of a
    finished message that has one; None: it gets one when it is claimed.

    Raises:
        InvalidReservation: when made from values that could never be stored or sent.
    """

    id: UUID
    mail: Mail
    scheduled_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = 0
    idempotency_key: str | None = None
    tag: str | None = None
    message_id: str | None = None

    def __post_init__(self) -> None:
        problems = [
            *self.mail.problems(),
            *time_problems("scheduled_at", self.scheduled_at),
            *time_problems("expires_at", self.expires_at),
            *line_problems("idempotency_key", self.idempotency_key, longest=LONGEST_KEY),
            *line_problems("tag", self.tag, longest=LONGEST_KEY),
        ]
        if self.idempotency_key == "":
            problems.append("idempotency_key: is empty; leave it out, or give one that is this mail's own")
        # Asked of anything but an int, a range looks at each of its four billion numbers.
        if type(self.priority) is not int or self.priority not in PRIORITIES:
            problems.append(f"priority: {self.priority} is not a 32-bit integer")
        if not problems and self.scheduled_at and self.expires_at and self.expires_at <= self.scheduled_at:
            problems.append("expires_at: is not after scheduled_at, so the mail could never go out")
        if problems:
            raise InvalidReservation(problems)


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a reservation is now: ``new`` is false when its idempotency key had stored it before."""

    reservation_id: UUID
    new: bool


def header_problems(headers: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what is wrong with extra header fields: their names, their values, or that mailbatch owns them.

    A value is a text, or a list of texts, one for each field. The grammar of each field is checked elsewhere.
    """
    for name, value in (headers or {}).items():
        shown = quoted(name, 80) if isinstance(name, str) else ascii(name)[:80]
        values = value if isinstance(value, (list, tuple)) else (value,)
        if not all(isinstance(one, str) for one in values):  # rows come from any language
            yield f"headers: the value of {shown} is not text, nor a list of texts"
        elif not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            yield f"headers: {shown} is not a header name (RFC 5322 §2.2: printable ASCII, no colon)"
        elif wrong := own_header_problem(name):
            yield f"headers: {wrong}"
        else:
            for one in values:
                yield from line_problems(f"headers: the value of {name}", one)


MAIL_FIELDS = tuple(field.name for field in fields(Mail))
