"""Writes a mail as SMTP commands, and finds out before sending whether a relay can never take it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.content import has_crlf_only
from mailbatch.domain.outcome import Reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mailbatch.domain.body import Body
    from mailbatch.domain.message import Message

_ATOM = r'[^\s<>"@\x00-\x1f\x7f]'
_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"'
# The text between < and > must not be able to end the address. The last check behind those at the entry.
_MAILBOX = re.compile(rf'(?:{_ATOM}+|{_QUOTED})@[^\s<>"@\x00-\x1f\x7f]+')
_SIZE = re.compile(r"[0-9]{1,20}")
_LIMIT = re.compile(r"(?<!\S)([A-Z0-9-]+)=([1-9][0-9]{0,5})(?!\S)")
"""One limit (RFC 9422 §4): at most 6 digits, and not 0. What does not fit is no limit."""


@dataclass(frozen=True, slots=True)
class Extensions:
    """The extensions of a relay that concern mails.

    ``max_size``: bytes of a message (RFC 1870). ``max_mails``: mails of one connection, and ``max_recipients``:
    recipients of one mail (RFC 9422). 0: no limit.
    """

    has_size: bool = False
    max_size: int = 0
    eight_bit: bool = False
    smtputf8: bool = False
    max_mails: int = 0
    max_recipients: int = 0

    @classmethod
    def of(cls, features: Mapping[str, str]) -> Extensions:
        """Read them from the reply to EHLO: names in lower case, with their parameters."""
        size = features.get("size", "")
        limits = dict(_LIMIT.findall(features.get("limits", "").upper()))
        return cls(
            has_size="size" in features,
            max_size=int(size) if _SIZE.fullmatch(size) else 0,
            eight_bit=bool(features.keys() & {"8bitmime", "smtputf8"}),
            smtputf8="smtputf8" in features,
            max_mails=int(limits.get("MAILMAX", 0)),
            max_recipients=int(limits.get("RCPTMAX", 0)),
        )


def recipients_taken(message: Message, extensions: Extensions) -> Sequence[str]:
    """Return the recipients that the relay takes in one mail: all, or the first ones."""
    recipients, most = message.envelope.recipients, extensions.max_recipients
    return recipients[:most] if 0 < most < len(recipients) else recipients


def commands(message: Message, extensions: Extensions, recipients: Iterable[str]) -> list[bytes]:
    """Return MAIL and a RCPT for each recipient, with the options that the message needs and the relay offers."""
    envelope = message.envelope
    options = f" SIZE={len(message.data)}" if extensions.has_size else ""
    if message.eight_bit:
        options += " BODY=8BITMIME"
    if _needs_smtputf8(message):
        options += " SMTPUTF8"
    return [
        f"MAIL FROM:<{envelope.sender}>{options}\r\n".encode(),
        *[f"RCPT TO:<{recipient}>\r\n".encode() for recipient in recipients],
    ]


def dot_stuffed(data: bytes) -> bytes:
    """Return ``data`` with a second dot in each line that begins with a dot (RFC 5321 §4.5.2)."""
    data = data.replace(b"\r\n.", b"\r\n..")
    return b"." + data if data.startswith(b".") else data


def dot_stuffed_pieces(body: Body) -> Iterator[bytes]:
    """Yield ``body`` with these dots: ``body.lines.dotted`` bytes more than it has. Raises what reading raises."""
    for part in body.parts:
        if isinstance(part, bytes):
            yield dot_stuffed(part)
        elif part.lines.dotted:
            yield from _dot_stuffed(part.pieces())
        else:
            yield from part.pieces()


def _dot_stuffed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    before = b"\r\n"
    for piece in pieces:
        stuffed = piece.replace(b"\r\n.", b"\r\n..")
        if before.endswith(b"\r\n") and piece.startswith(b"."):
            stuffed = b"." + stuffed
        elif before.endswith(b"\r") and piece.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        before = (before + piece[-2:])[-2:]
        yield stuffed


def permanent_refusal(message: Message, extensions: Extensions) -> Reply | None:
    """Return the reply that this relay would give if it can never take ``message``, else None."""
    return _malformed(message) or _exceeds_extensions(message, extensions)


def _malformed(message: Message) -> Reply | None:
    data, envelope = message.data, message.envelope
    are_whole = data.endswith(b"\r\n") and has_crlf_only(data) if isinstance(data, bytes) else data.lines.are_whole
    if not are_whole:
        # SMTP smuggling (CVE-2023-51764): a relay that sees the end of a body there reads the rest as commands.
        return Reply(554, "5.6.0 the message has a bare CR or LF, or does not end with CRLF; not sent")
    if envelope.sender and not _MAILBOX.fullmatch(envelope.sender):
        return Reply(553, "5.1.7 the sender is not an address; not sent")
    for recipient in envelope.recipients:
        if not _MAILBOX.fullmatch(recipient):
            return Reply(553, "5.1.3 a recipient is not an address; not sent")
    return None


def _exceeds_extensions(message: Message, extensions: Extensions) -> Reply | None:
    length = len(message.data)
    if not extensions.smtputf8 and _needs_smtputf8(message):
        return Reply(553, "5.6.7 the relay does not offer SMTPUTF8, which an address needs (RFC 6531); not sent")
    if message.eight_bit and not extensions.eight_bit:
        return Reply(554, "5.6.3 the relay does not offer 8BITMIME, which the message needs (RFC 6152); not sent")
    if 0 < extensions.max_size < length:
        return Reply(
            552, f"5.3.4 the message has {length} bytes, the relay takes {extensions.max_size} (RFC 1870); not sent"
        )
    return None


def _needs_smtputf8(message: Message) -> bool:
    envelope = message.envelope
    return envelope.smtputf8 or not (envelope.sender.isascii() and all(map(str.isascii, envelope.recipients)))
