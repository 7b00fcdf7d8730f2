"""What the header of a message, or of one of its parts, says about the body below it (RFC 2045, RFC 2046)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import TYPE_CHECKING

from mailbatch.domain.redaction.lines import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.infrastructure.mime.message_header import Field

_SIGNATURES = ("dkim-signature", "arc-message-signature", "domainkey-signature")
"""Fields that say that a signature covers the message below them, header and body."""
_MESSAGES = ("message/rfc822", "message/global")
_ENCODED = ("quoted-printable", "base64")
_TYPE = re.compile(r"[^\s/;]+/[^\s/;]+")
_LONGEST_TYPE = 10_000
"""Characters of a Content-Type. The standard library's reader takes a time that grows with the square of it."""
_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Entity:
    """A message or a part. ``number`` counts it as IMAP does (RFC 9051 §6.4.5); it is empty for the message itself.

    ``boundary`` is that of its parts, if it has any. ``is_signed``: a signature covers its header and its body;
    ``signs_below``: it covers its body. ``depth``: how many others it is in. ``header``: where its header begins and
    ends; ``has_separator``: an empty line is behind it.
    """

    number: str
    fields: Sequence[Field]
    content_type: str
    encoding: str
    boundary: bytes | None
    is_signed: bool
    depth: int = 0
    header: tuple[int, int] = (0, 0)
    has_separator: bool = True

    @property
    def signs_below(self) -> bool:
        """Whether a signature covers the body."""
        return self.is_signed or self.content_type == "multipart/signed"

    @property
    def is_message(self) -> bool:
        """Whether the body is a message that can be read as it stands."""
        return self.content_type in _MESSAGES and self.encoding not in _ENCODED

    @property
    def is_text(self) -> bool:
        """Whether line ends are line ends, and not data."""
        return self.content_type.startswith("text/")

    @property
    def may_be_encoded(self) -> bool:
        """Whether another encoding is allowed: multiparts and messages may have none (RFC 2046 §5)."""
        return not self.content_type.startswith(("multipart/", "message/")) or self.encoding in _ENCODED

    @property
    def default_type(self) -> str:
        """The type of a part that names none (RFC 2046 §5.1.5)."""
        return "message/rfc822" if self.content_type == "multipart/digest" else "text/plain"

    def __str__(self) -> str:
        where = f"part {self.number}" if self.number else "its body"
        return f"{where} ({shown(self.content_type, _LONGEST_SHOWN)})"


def read_entity(
    fields: Sequence[Field],
    number: str = "",
    default_type: str = "text/plain",
    *,
    is_message: bool = True,
    is_signed: bool = False,
    depth: int = 0,
    header: tuple[int, int] = (0, 0),
    has_separator: bool = True,
) -> Entity:
    """Return what ``fields`` say. ``is_message``: they are the header of a message, not only of a part."""
    text = _first(fields, "content-type")
    content_type = (text.partition(";")[0].strip().lower() or default_type) if text is not None else default_type
    if not _TYPE.fullmatch(content_type):
        content_type = "text/plain"
    encoding = (_first(fields, "content-transfer-encoding") or "").strip().lower()
    boundary = _boundary(text or "") if content_type.startswith("multipart/") else None
    is_signed = is_signed or (is_message and any(one.is_named(*_SIGNATURES) for one in fields))
    return Entity(number, fields, content_type, encoding, boundary, is_signed, depth, header, has_separator)


def _first(fields: Sequence[Field], name: str) -> str | None:
    """Return the value of the first of the fields ``name``, as the standard library does."""
    for one in fields:
        if one.is_named(name):
            return one.raw.partition(b":")[2].decode("ascii", "surrogateescape")
    return None


def _boundary(content_type: str) -> bytes | None:
    if len(content_type) > _LONGEST_TYPE:
        raise ValueError(f"a Content-Type has {len(content_type)} characters; at most {_LONGEST_TYPE} are read")
    header = Message()
    header["Content-Type"] = " ".join(content_type.split())
    found = header.get_param("boundary")
    if found is None:
        return None
    return collapse_rfc2231_value(found).rstrip().encode("utf-8", "surrogateescape")
