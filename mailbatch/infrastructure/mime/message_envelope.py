"""Reads from a finished message to whom it goes and from whom it comes (RFC 5322 §3.6.2, §3.6.3, §3.6.6)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING

from mailbatch.domain.address_list import ANGLE, QUOTED, address_list, comment_end, parted
from mailbatch.domain.errors import InvalidReservation
from mailbatch.infrastructure.mime.addresses import read_addresses
from mailbatch.infrastructure.mime.message_header import header_end, read_header, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.message import Address
    from mailbatch.infrastructure.mime.message_header import Field

HIDDEN = ("bcc", "resent-bcc")
"""Fields that never go on the wire."""
_OF_A_GROUP = re.compile(rf"{QUOTED}|{ANGLE}|[(:;,]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MessageEnvelope:
    """To whom a message goes, as a text for the column ``recipients``; and the message without its Bcc."""

    recipients: str
    message: bytes = field(repr=False)


def message_envelope(message: Message | bytes, recipients: str | None = None) -> MessageEnvelope:
    """Return the envelope of ``message``: its To, Cc and Bcc, or its Resent-To, Resent-Cc and Resent-Bcc if it has any.

    ``recipients`` stand in place of these fields if they are given. Without recipients the text is empty.

    Raises:
        InvalidReservation: with one line that begins with ``message``.
    """
    data = message_bytes(message)
    try:
        end, _ = header_end(data) or (len(data), len(data))
        fields = read_header(data[:end])
        found = recipients if recipients is not None else _as_list(recipients_of(fields))
    except ValueError as error:
        raise InvalidReservation([f"message: {error}"]) from None
    kept = [one.raw for one in fields if not one.is_named(*HIDDEN)]
    if len(kept) != len(fields):
        data = b"".join([*kept, data[end:]])
    return MessageEnvelope(found, data)


def message_bytes(message: Message | bytes) -> bytes:
    """Return ``message`` as bytes, with CRLF line ends if the ``email`` package writes it.

    Raises:
        InvalidReservation: it is neither bytes nor a message of the ``email`` package, or that cannot write it.
    """
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    if not isinstance(message, Message):
        raise InvalidReservation([f"message: must be an EmailMessage or bytes, not {type(message).__name__}"])
    # mangle_from_ would change the text, and with it what a signature covers.
    policy = message.policy.clone(linesep="\r\n", mangle_from_=False)
    try:
        return message.as_bytes(policy=policy)
    except Exception as error:
        # The package raises whatever its parts raise: KeyError, UnicodeEncodeError, AttributeError.
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidReservation([f"message: the email package cannot write it ({why})"]) from error


def recipients_of(fields: Sequence[Field]) -> list[Address]:
    """Return each recipient once. Raises ``ValueError`` with the name of the field that cannot be read."""
    names = ("Resent-To", "Resent-Cc", "Resent-Bcc")
    resent = [one for one in fields if one.is_named(*map(str.lower, names))]
    if len({one.name.lower() for one in resent}) != len(resent):
        raise ValueError("it was resent several times, so its header does not say to whom it goes now; name them")
    found: dict[str, Address] = {}
    for name in names if resent else ("To", "Cc", "Bcc"):
        for address in addresses_of(fields, name):
            found.setdefault(address.addr_spec, address)
    return list(found.values())


def author_of(fields: Sequence[Field]) -> Address | None:
    """Return who sends the message: its (Resent-)Sender, else the first author; None if there is none.

    Raises:
        ValueError: with the name of the field that cannot be read.
    """
    for name in ("Resent-Sender", "Resent-From", "Sender", "From"):
        if read := addresses_of(fields, name):
            return read[0]
    return None


def addresses_of(fields: Sequence[Field], name: str) -> list[Address]:
    """Return the addresses of the fields ``name``. Raises ``ValueError`` with the name and the reason."""
    read: list[Address] = []
    for text in texts(fields, name.lower()):
        try:
            read += _read(text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return read


def _read(text: str) -> list[Address]:
    """Read a list as other programs write it: with groups (RFC 5322 §3.4) and with empty entries (§4.4)."""
    entries = [entry for entry in parted(_without_groups(text)) if entry.strip()]
    return read_addresses(",".join(entries)) if entries else []


def _without_groups(text: str) -> str:
    """Return ``text`` with the members of groups as entries of the list, as in ``undisclosed-recipients:;``."""
    if ":" not in text:
        return text
    kept, entry, at = list[str](), 0, 0
    while found := _OF_A_GROUP.search(text, at):
        at = found.end()
        match found[0]:
            case "(":
                at = comment_end(text, found.start()) or len(text)
            case ":":
                entry = at
            case ";" | ",":
                kept.append(text[entry : found.start()])
                entry = at
            case _:
                pass
    return ",".join([*kept, text[entry:]])


def _as_list(addresses: Sequence[Address]) -> str:
    return address_list("recipients", [(one.display_name, one.addr_spec) for one in addresses])
