"""Reads a finished message as a mail client shows it: its header, its text and HTML, its parts."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.policy import compat32
from typing import TYPE_CHECKING

from mailbatch.domain.content import ContentInMemory
from mailbatch.domain.message_subject import decoded
from mailbatch.domain.seen_message import Image, MessagePart, SeenMessage
from mailbatch.infrastructure.mime.message_header import header_end, read_header, texts
from mailbatch.infrastructure.mime.structure import read_structure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from email.message import Message

    from mailbatch.domain.content import Content
    from mailbatch.infrastructure.mime.message_header import Field

LARGEST = 8 * 2**20
"""Bytes of a message that are read: the standard library's parser holds them several times."""
_FIELDS = ("Subject", "From", "To", "Cc", "Reply-To", "Date")
_MOST_IMAGES = 4 * 2**20
_IMAGES = re.compile(r"image/[a-z0-9.+-]{1,60}")
# Others, such as idna, take a time that grows with the square of the text.
_CHARSETS = re.compile(r"(?:us-?ascii|utf|iso|latin|windows|cp\d|koi8|gb|big5|euc|shift|mac|tis)", re.IGNORECASE)


def see_message(message: bytes | Content) -> SeenMessage:
    """Return what a reader sees of ``message``, of which at most ``LARGEST`` bytes are read.

    Raises:
        ValueError: one line that says why it cannot be read.
        MailbatchError: its bytes cannot be read.
    """
    data, is_whole = _beginning(message)
    end, start = header_end(data) or (len(data), len(data))
    fields = read_header(data[:end])
    # The standard library's parser knows no bounds for the number of parts and their depth.
    read_structure(fields, ContentInMemory(data[start:]).pieces())
    parts = list(_leaves(message_from_bytes(data, policy=compat32)))
    return SeenMessage(
        fields=_shown_fields(fields),
        text=_body(parts, "text/plain"),
        html=_body(parts, "text/html"),
        parts=tuple(map(_part, parts)),
        images=_images(parts),
        is_whole=is_whole,
    )


def _beginning(message: bytes | Content) -> tuple[bytes, bool]:
    if isinstance(message, bytes):
        return message[:LARGEST], len(message) <= LARGEST
    data = bytearray()
    for piece in message.pieces():
        data += piece
        if len(data) >= LARGEST:
            break
    return bytes(data[:LARGEST]), message.size <= LARGEST


def _shown_fields(fields: Sequence[Field]) -> Mapping[str, str]:
    found = {name: ", ".join(map(decoded, texts(fields, name.lower()))) for name in _FIELDS}
    return {name: text for name, text in found.items() if text}


def _leaves(part: Message) -> Iterator[Message]:
    """Yield the parts that are no multipart. A message inside is one part."""
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for one in part.get_payload():
            yield from _leaves(one)  # type: ignore[arg-type]  # the parts of a multipart are messages
    else:
        yield part


def _body(parts: Sequence[Message], kind: str) -> str | None:
    """Return the first part of this type that is not for saving."""
    for part in parts:
        if part.get_content_type() == kind and part.get_content_disposition() != "attachment":
            charset = part.get_content_charset() or "utf-8"
            return _bytes(part).decode(charset if _known(charset) else "utf-8", "replace")
    return None


def _known(charset: str) -> bool:
    if not _CHARSETS.match(charset):
        return False
    try:
        b"".decode(charset)
    except LookupError:
        return False
    return True


def _part(part: Message) -> MessagePart:
    name = part.get_filename()
    return MessagePart(
        filename=decoded(str(name)) if name else "",
        content_type=part.get_content_type(),
        content_id=_content_id(part),
        size=None if part.is_multipart() else len(_bytes(part)),
    )


def _images(parts: Sequence[Message]) -> dict[str, Image]:
    found, left = dict[str, Image](), _MOST_IMAGES
    for part in parts:
        own, kind = _content_id(part), part.get_content_type()
        content = _bytes(part) if own and _IMAGES.fullmatch(kind) else b""
        if own and 0 < len(content) <= left:
            found[own] = Image(kind, content)
            left -= len(content)
    return found


def _content_id(part: Message) -> str | None:
    return str(part.get("Content-ID") or "").strip().strip("<>") or None


def _bytes(part: Message) -> bytes:
    found = part.get_payload(decode=True)
    return found if isinstance(found, bytes) else b""
