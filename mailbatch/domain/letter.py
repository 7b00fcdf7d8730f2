"""The content of a mail, before it is written as a message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from mailbatch.domain.attachment_list import Reference
    from mailbatch.domain.content import LineContent
    from mailbatch.domain.message import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The parts of a mail after its templates have run; at least one of the bodies is there.

    ``images``: what the HTML shows of the template's own folder.
    """

    subject: str
    text: str | None
    html: str | None
    images: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """A file of a letter, ready to be written.

    ``encoded``: its content in base64, in lines of 76 characters, each with CRLF. ``content_id``: see ``Attachment``.
    """

    filename: str
    content_type: str
    encoded: LineContent = field(repr=False)
    content_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """The content of a message, checked and ready to be written.

    ``date`` has a time zone. ``message_id`` has no angle brackets.
    """

    message_id: str
    date: datetime
    sender: tuple[Address, ...]
    to: tuple[Address, ...]
    cc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    rendered: Rendered
    headers: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    attachments: tuple[FilePart, ...] = ()
