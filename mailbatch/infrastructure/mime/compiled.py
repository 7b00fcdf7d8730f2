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
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mailbatch.domain.errors import CannotCompose
from mailbatch.infrastructure.mime.bodies import encoded_file, encoded_text
from mailbatch.infrastructure.mime.fields import header_fields
from mailbatch.infrastructure.mime.headers import address_field, cached_mailbox, checked, text_field
from mailbatch.infrastructure.mime.words import FOLD, parameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mailbatch.domain.attachment import Attachment
    from mailbatch.domain.letter import Letter
    from mailbatch.infrastructure.mime.bodies import Encoding

_MESSAGE_ID = re.compile(r"[!-;=?-~]+@[!-;=?-~]+")
_VERSION = b"MIME-Version: 1.0\r\n"


def _text_head(subtype: str, encoding: str) -> bytes:
    return f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'.encode()


_ENCODINGS: tuple[Encoding, ...] = ("7bit", "quoted-printable", "base64")
_PLAIN = {encoding: _text_head("plain", encoding) for encoding in _ENCODINGS}
_HTML = {encoding: _text_head("html", encoding) for encoding in _ENCODINGS}


class CompiledWriter:
    """Writes letters (the port ``LetterWriter``).

    An attachment that several letters share is encoded once, and kept as long as one of them holds it.
    """

    def __init__(self) -> None:
        self._attached: WeakKeyDictionary[Attachment, list[bytes]] = WeakKeyDictionary()

    def __call__(self, letter: Letter) -> bytes:
        """Return the bytes of ``letter``.

        Raises:
            CannotCompose: a header would not read back as that header and no other, or an attachment cannot be
                attached.
        """
        try:
            data = b"".join([_head(letter), _VERSION, *self._body(letter)])
        except UnicodeEncodeError as error:
            raise CannotCompose([f"the message has the character U+{ord(error.object[error.start]):04X}"]) from error
        if not data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r"):
            raise CannotCompose(["the message has a bare line break, which a relay could take for its end"])
        return data

    def _body(self, letter: Letter) -> Sequence[bytes]:
        """Return text and HTML as alternatives, the richer one last (RFC 2046 §5.1.4), and the files after them."""
        text, html = letter.rendered.text, letter.rendered.html
        if html is None:
            body = _text(_PLAIN, text or "")
        elif text is None:
            body = self._html_with_images(letter, html)
        else:
            body = _multipart("alternative", [_text(_PLAIN, text), self._html_with_images(letter, html)])
        if not letter.attachments:
            return body
        files = [self._file(a) for a in letter.attachments if html is None or a.content_id is None]
        return _multipart("mixed", [body, *files]) if files else body

    def _html_with_images(self, letter: Letter, html: str) -> Sequence[bytes]:
        """Return the HTML with the images that it shows (RFC 2387)."""
        images = [self._file(a) for a in letter.attachments if a.content_id is not None]
        body = _text(_HTML, html)
        return _multipart('related; type="text/html"', [body, *images]) if images else body

    def _file(self, attachment: Attachment) -> Sequence[bytes]:
        entity = self._attached.get(attachment)
        if entity is None:
            entity = self._attached[attachment] = [_file_head(attachment), b"\r\n", *encoded_file(attachment.content)]
        return entity


def _head(letter: Letter) -> bytes:
    """Return the header fields, except for those that describe the body."""
    names, fields = [], []
    for name, field in _fields(letter):
        names.append(name)
        fields.append(field)
    return checked(fields, names)


def _fields(letter: Letter) -> Iterator[tuple[str, str]]:
    if not _MESSAGE_ID.fullmatch(letter.message_id):
        raise CannotCompose([f"message_id: {ascii(letter.message_id)[:80]} is no message id (RFC 5322 §3.6.4)"])
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


def _text(heads: dict[Encoding, bytes], text: str) -> Sequence[bytes]:
    encoding, pieces = encoded_text(text)
    return [heads[encoding], *pieces]


def _multipart(subtype: str, entities: Sequence[Sequence[bytes]]) -> Sequence[bytes]:
    # "=_" occurs neither in base64 nor in quoted-printable (RFC 2045 §6.7). The rest is random and new in each mail:
    # otherwise somebody who has received a mail could put its boundary into the text of another.
    boundary = f"=_{os.urandom(16).hex()}"
    opening = f"\r\n--{boundary}\r\n".encode()
    pieces = [f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"\r\n'.encode()]
    for entity in entities:
        pieces.append(opening)
        pieces += entity
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    return pieces


def _file_head(attachment: Attachment) -> bytes:
    if problems := list(attachment.problems()):
        raise CannotCompose(problems)
    cid = attachment.content_id
    fields = {
        "Content-Type": attachment.content_type.replace(";", f";{FOLD}").replace(f"{FOLD} ", FOLD),
        "Content-Transfer-Encoding": "base64",
        "Content-Disposition": f"{'attachment' if cid is None else 'inline'}"
        f"{parameter('filename', attachment.basename)}",
    } | ({} if cid is None else {"Content-ID": f"<{cid}>"})
    return checked([f"{name}: {value}\r\n" for name, value in fields.items()], list(fields))
