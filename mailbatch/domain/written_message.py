"""A finished message as it is sent, and what is added to it if it has no such field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from mailbatch.domain.body import Body
    from mailbatch.domain.message import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What a finished message gets where it has no such field of its own.

    ``message_id`` has no angle brackets, ``date`` has a time zone, ``sender`` is a list of addresses.
    ``needs_author``: say who sends the message, because nothing else is its envelope sender.
    """

    message_id: str
    date: datetime
    sender: str | None
    auto_submitted: bool
    needs_author: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenMessage:
    """A finished message as it goes on the wire.

    ``author``: who sends it, if that was asked. ``has_utf8_header``: only a relay with SMTPUTF8 takes it (RFC 6532).
    """

    data: bytes | Body
    author: Address | None
    has_utf8_header: bool
