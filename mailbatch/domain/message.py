"""A mail that is ready for the wire: its envelope (RFC 5321) and its bytes (RFC 5322)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.domain.body import Body


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send one reservation once: its id, and a number that excludes every other holder."""

    reservation_id: UUID
    claim_no: int

    def __hash__(self) -> int:
        # It is needed seven times for each mail. The id alone spreads as well, and costs half.
        return hash(self.reservation_id.int)


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox. ``domain`` is in its ASCII form (A-labels); ``local`` may need SMTPUTF8 (RFC 6531)."""

    display_name: str
    local: str
    domain: str

    @property
    def addr_spec(self) -> str:
        """``local@domain``, as it stands in MAIL FROM, RCPT TO and the header."""
        return f"{self.local}@{self.domain}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """Sender and recipients: addr-specs without angle brackets, each recipient once, in order."""

    sender: str
    recipients: tuple[str, ...]
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class MessageEnvelope:
    """To whom a message goes, as a text for the column ``recipients``; and the message without its Bcc."""

    recipients: str
    message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """A message for a transport.

    ``data`` has CRLF line ends, no bare CR or LF, no line over 998 bytes, ends with CRLF and is *not* dot-stuffed.
    ``eight_bit``: it holds bytes above 127, so BODY=8BITMIME is needed.
    """

    claim: Claim
    envelope: Envelope
    data: bytes | Body
    eight_bit: bool = False

    @property
    def head(self) -> bytes:
        """Its header fields, without the line end of the last one."""
        first = self.data if isinstance(self.data, bytes) else next(self.data.pieces())
        return first.partition(b"\r\n\r\n")[0]
