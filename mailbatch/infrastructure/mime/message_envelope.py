"""Reads from a finished message to whom it goes and from whom it comes (RFC 5322 §3.6.2, §3.6.3, §3.6.6)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailbatch.domain.address_list import ANGLE, QUOTED, address_list, comment_end, parted
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.message import MessageEnvelope
from mailbatch.domain.reservation import EMPTY_MESSAGE
from mailbatch.infrastructure.mime.addresses import read_addresses
from mailbatch.infrastructure.mime.email_package import message_bytes
from mailbatch.infrastructure.mime.message_header import header_end, read_header, texts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from email.message import Message

    from mailbatch.domain.message import Address
    from mailbatch.infrastructure.mime.message_header import Field

HIDDEN = ("bcc", "resent-bcc")
"""Fields that never go on the wire."""
_OF_A_GROUP = re.compile(rf"{QUOTED}|{ANGLE}|[(:;,]", re.DOTALL)


def message_envelope(message: Message | bytes, recipients: str | None = None) -> MessageEnvelope:
    """Return the envelope of ``message``: its To, Cc and Bcc, or its Resent-To, Resent-Cc and Resent-Bcc if it has any.

    ``recipients`` stand in place of these fields if they are given. Without recipients the text is empty.

    Raises:
        InvalidReservation: with one line that begins with ``message``.
    """
    data = message_bytes(message)
    if not data:
        raise InvalidReservation([EMPTY_MESSAGE])
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


def message_author(message: bytes) -> Address | None:
    """Return the author, as ``author_of``, of ``message``, of which the header is enough. Raises as ``author_of``."""
    end, _ = header_end(message) or (len(message), len(message))
    return author_of(read_header(message[:end]))


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
