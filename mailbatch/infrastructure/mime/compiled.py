"""Writes a letter as MIME (RFC 2045–2049) from constant parts and texts that are encoded in bulk.

``EmailMessage`` makes objects of the parts of a mail and folds each header by a grammar. Here a mail is a list of byte
strings, most of them constants. The standard library must read what was written: tests/contract and
tests/integration/test_mime_oracle.py compare the two.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from enum import Enum, auto
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from mailbatch.domain.attachment import file_problems
from mailbatch.domain.body import Body
from mailbatch.domain.content import has_crlf_only
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.redaction.lines import quoted
from mailbatch.infrastructure.mime.bodies import encoded_text
from mailbatch.infrastructure.mime.fields import header_fields
from mailbatch.infrastructure.mime.headers import address_field, cached_mailbox, checked, text_field
from mailbatch.infrastructure.mime.words import FOLD, parameter, parameter_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    from mailbatch.domain.content import LineContent
    from mailbatch.domain.letter import FilePart, Letter, Rendered
    from mailbatch.infrastructure.mime.bodies import Encoding

    Entity: TypeAlias = Sequence[bytes | LineContent]

Piece = TypeVar("Piece", bytes, "bytes | LineContent")

_MESSAGE_ID = re.compile(r"[!-;=?-~]+@[!-;=?-~]+")
_VERSION = b"MIME-Version: 1.0\r\n"
_BARE_BREAK = "the message has a bare line break, which a relay could take for its end"
_INVITATION = re.compile(r"text/calendar *;.*\bmethod=", re.IGNORECASE)
"""RFC 6047 §2.4: what is to be done with the calendar entry."""


def _text_head(subtype: str, encoding: str) -> bytes:
    return f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'.encode()


_ENCODINGS: tuple[Encoding, ...] = ("7bit", "quoted-printable", "base64")
_PLAIN = {encoding: _text_head("plain", encoding) for encoding in _ENCODINGS}
_HTML = {encoding: _text_head("html", encoding) for encoding in _ENCODINGS}


class CompiledWriter:
    """Writes letters (the port ``LetterWriter``)."""

    def __call__(self, letter: Letter) -> bytes | Body:
        """Return the bytes of ``letter``.

        Raises:
            CannotCompose: a header would not read back as that header and no other, or a file cannot be attached.
        """
        try:
            if letter.attachments:
                return _in_parts([_head(letter), _VERSION, *_with_files(letter)])
            data = b"".join([_head(letter), _VERSION, *_alternatives(letter.rendered)])
        except UnicodeEncodeError as error:
            raise CannotCompose([f"the message has the character U+{ord(error.object[error.start]):04X}"]) from error
        if not has_crlf_only(data):
            raise CannotCompose([_BARE_BREAK])
        return data


def _alternatives(rendered: Rendered) -> Sequence[bytes]:
    """Return text and HTML as alternatives, the richer one last (RFC 2046 §5.1.4)."""
    if rendered.html is None:
        return _text(_PLAIN, rendered.text or "")
    html = _text(_HTML, rendered.html)
    return html if rendered.text is None else _multipart("alternative", [_text(_PLAIN, rendered.text), html])


def _head(letter: Letter) -> bytes:
    """Return the header fields, except for those that describe the body."""
    names, fields = [], []
    for name, field in _fields(letter):
        names.append(name)
        fields.append(field)
    return checked(fields, names)


def _fields(letter: Letter) -> Iterator[tuple[str, str]]:
    if not _MESSAGE_ID.fullmatch(letter.message_id):
        raise CannotCompose([f"message_id: {quoted(letter.message_id, 80)} is no message id (RFC 5322 §3.6.4)"])
    offset = letter.date.utcoffset()
    if offset is None:
        raise CannotCompose([f"date: {letter.date.isoformat()} has no time zone"])
    if len(letter.sender) == 1:
        yield "From", cached_mailbox("From", letter.sender[0])
    else:
        yield "From", address_field("From", letter.sender)
        # RFC 5322 §3.6.2: if there are several authors, one of them is the sender.
        yield "Sender", cached_mailbox("Sender", letter.sender[0])
    for name, addresses in (("To", letter.to), ("Cc", letter.cc), ("Reply-To", letter.reply_to)):
        if addresses:
            yield name, address_field(name, addresses)
    yield "Subject", text_field("Subject", letter.rendered.subject)
    yield "Date", _date(letter.date.replace(tzinfo=None, microsecond=0), offset)
    yield "Message-ID", f"Message-ID: <{letter.message_id}>\r\n"
    for name, value in letter.headers.items():
        for field in _extra_fields(name, value):
            yield name, field


def _extra_fields(name: str, value: str | Sequence[str]) -> Sequence[str]:
    try:
        return header_fields(name, value)
    except UnicodeEncodeError:
        raise
    except ValueError as error:
        raise CannotCompose([f"headers: {name}: {error}"]) from error


@lru_cache(maxsize=4)
def _date(local: datetime, offset: timedelta) -> str:
    """Return the Date field. The zone is a part of the key, because it is a part of the text."""
    return f"Date: {format_datetime(local.replace(tzinfo=timezone(offset)))}\r\n"


def _text(heads: dict[Encoding, bytes], text: str) -> list[bytes]:
    encoding, pieces = encoded_text(text)
    return [heads[encoding], *pieces]


# --- with files ----------------------------------------------------------------------------------------------------


def _with_files(letter: Letter) -> Entity:
    """Return mixed(alternative(text, related(HTML, images), invitations), files).

    In this order all common programs show each part where it belongs: files in related vanish on iOS, and of files in
    alternative it shows one only. An invitation is an alternative, the last one: only there calendars offer to accept.
    """
    text, html = letter.rendered.text, letter.rendered.html
    places: dict[_Place, list[Entity]] = {place: [] for place in _Place}
    for file in letter.attachments:
        place = _place(file, html)
        places[place].append([_file_head(file.filename, file.content_type, file.content_id, place), file.encoded])
    bodies: list[Entity] = [_text(_PLAIN, text or "")] if text is not None or html is None else []
    if html is not None:
        bodies.append(_joined('related; type="text/html"', [_text(_HTML, html), *places[_Place.IMAGE]]))
    body = _joined("alternative", [*bodies, *places[_Place.INVITATION]])
    return _joined("mixed", [body, *places[_Place.FILE]])


class _Place(Enum):
    """Where a file stands in a letter."""

    IMAGE = auto()
    INVITATION = auto()
    FILE = auto()


def _place(file: FilePart, html: str | None) -> _Place:
    if _INVITATION.match(file.content_type):
        return _Place.INVITATION
    # Without HTML nothing shows an image. Then it is a file like any other.
    return _Place.IMAGE if file.content_id is not None and html is not None else _Place.FILE


@lru_cache(maxsize=256)
def _file_head(filename: str, content_type: str, content_id: str | None, place: _Place) -> bytes:
    """Return the header of a file, with its empty line. It is kept, because many mails have the same file."""
    if problems := list(file_problems(filename, content_type, content_id)):
        raise CannotCompose(problems)
    kind = content_type.replace(";", f";{FOLD}").replace(f"{FOLD} ", FOLD)
    fields = {"Content-Type": kind, "Content-Transfer-Encoding": "base64"}
    match place:
        case _Place.INVITATION:
            if "charset=" not in content_type.lower():
                fields["Content-Type"] += parameter("charset", "utf-8")  # RFC 5545 §3.1.4
        case _Place.IMAGE:
            fields |= {"Content-Disposition": f"inline{parameter('filename', filename)}"}
            fields |= {"Content-ID": f"<{content_id}>"}
        case _Place.FILE:
            # No Content-ID: Outlook would take the file for an image that the HTML shows.
            fields |= {"Content-Disposition": f"attachment{parameter('filename', filename)}"}
    if place is not _Place.INVITATION:
        fields["Content-Type"] += parameter_in_words("name", filename)
    return checked([f"{name}: {value}\r\n" for name, value in fields.items()], list(fields)) + b"\r\n"


def _joined(subtype: str, entities: list[Entity]) -> Entity:
    return _multipart(subtype, entities) if len(entities) > 1 else entities[0]


def _in_parts(pieces: Entity) -> Body:
    """Return ``pieces`` as a body; those that are in memory become one where they follow each other."""
    parts: list[bytes | LineContent] = []
    for in_memory, some in groupby(pieces, lambda piece: isinstance(piece, bytes)):
        if in_memory:
            parts.append(b"".join(some))  # type: ignore[arg-type]
        else:
            parts += some
    body = Body.of(*parts)
    if not body.lines.are_whole:
        raise CannotCompose([_BARE_BREAK])
    return body


def _multipart(subtype: str, entities: Sequence[Sequence[Piece]]) -> Sequence[Piece]:
    # "=_" occurs neither in base64 nor in quoted-printable (RFC 2045 §6.7). The rest is random and new in each mail:
    # otherwise somebody who has received a mail could put its boundary into the text of another.
    boundary = f"=_{os.urandom(16).hex()}"
    opening = f"\r\n--{boundary}\r\n".encode()
    pieces: list[Piece] = [f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"\r\n'.encode()]
    for entity in entities:
        pieces.append(opening)
        pieces += entity
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    return pieces
