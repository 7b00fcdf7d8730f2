"""Write a letter as MIME (RFC 2045–2049) by the standard library: slow and right, the measure of any faster writer."""

from __future__ import annotations

import re
import secrets
from binascii import b2a_base64
from email.generator import BytesGenerator
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from io import BytesIO
from typing import TYPE_CHECKING

from mailbatch.domain.errors import CannotCompose
from mailbatch.infrastructure.mime.headers import address_field, plain_field, text_field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.application.compose import Letter

LONGEST_LINE = 998
"""Bytes of a line without its CRLF (RFC 5322 §2.1.1)."""

_MESSAGE_ID = re.compile(r"[!-;=?-~]+@[!-;=?-~]+")
_BARE_BREAK = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_LONG_LINE = re.compile(rb"^[^\n]{%d}" % (LONGEST_LINE + len("\r") + 1), re.MULTILINE)
# Long lines, and characters that some relay might not leave as they are.
_NOT_PLAIN = re.compile(r"[^\t\r\n -~]|(?:^|\r)[^\r\n]{77}", re.MULTILINE)
_ANY_BREAK = re.compile(r"\r\n|\r|\n")
_BASE64_LINE = 57
_ASCII = bytes(range(128))
_LARGE = 262_144
"""Bytes above which base64, which is made in C, is worth its size."""


def write_letter(letter: Letter) -> bytes:
    """Answer the bytes of ``letter`` (the port ``LetterWriter``).

    Raises:
        CannotCompose: if a header could not be written so that it reads back as that header and no other.
    """
    fields = list(_fields(letter))
    body = _body(letter)
    out = BytesIO()
    out.writelines(field for _, field in fields)
    _Frugal(out, mangle_from_=False, policy=SMTP).flatten(body)
    data = out.getvalue()
    del out
    _verify(data, [*(name for name, _ in fields), *body.keys()])
    return data


def _fields(letter: Letter) -> Iterator[tuple[str, bytes]]:
    """Yield the header fields, by name, except for those that describe the body."""
    if not _MESSAGE_ID.fullmatch(letter.message_id):
        raise CannotCompose([f"message_id: {ascii(letter.message_id)[:80]} is no message id (RFC 5322 §3.6.4)"])
    if letter.date.utcoffset() is None:
        raise CannotCompose([f"date: {letter.date.isoformat()} has no time zone"])
    yield "From", address_field("From", letter.sender)
    if len(letter.sender) > 1:
        # RFC 5322 §3.6.2: of several authors one is the sender.
        yield "Sender", address_field("Sender", letter.sender[:1])
    for name, addresses in (("To", letter.to), ("Cc", letter.cc), ("Reply-To", letter.reply_to)):
        if addresses:
            yield name, address_field(name, addresses)
    yield "Subject", text_field("Subject", letter.rendered.subject)
    yield "Date", plain_field("Date", format_datetime(letter.date))
    yield "Message-ID", plain_field("Message-ID", f"<{letter.message_id}>")
    for name, value in letter.headers.items():
        yield name, text_field(name, value)


class _Frugal(BytesGenerator):
    """Writes a large body in pieces; the standard one makes a list of all its lines first, thrice its size."""

    def _write_lines(self, lines: str) -> None:
        start = 0
        while start < len(lines):
            end = lines.find("\n", start + _LARGE) + 1 or len(lines)
            super()._write_lines(lines[start:end])  # type: ignore[misc]
            start = end


def _body(letter: Letter) -> EmailMessage:
    """Answer text, HTML, or both as alternatives, the richer last (RFC 2046 §5.1.4)."""
    bodies = (("plain", letter.rendered.text), ("html", letter.rendered.html))
    parts = [_part(subtype, text) for subtype, text in bodies if text is not None]
    if len(parts) == 1:
        return parts[0]
    both = EmailMessage(policy=SMTP)
    both["MIME-Version"] = "1.0"
    both.make_alternative()
    # "=_" stands neither in base64 nor in quoted-printable (RFC 2045 §6.7), and nobody guesses the rest.
    both.set_boundary(f"=_{secrets.token_hex(16)}")
    for part in parts:
        del part["MIME-Version"]
        both.attach(part)
    return both


def _part(subtype: str, text: str) -> EmailMessage:
    part, encoding = EmailMessage(policy=SMTP), _encoding(text)
    if encoding == "quoted-printable":
        part.set_content(text, subtype=subtype, cte=encoding)
    else:
        # set_content() would hold five copies of a large text at a time.
        part.set_content("", subtype=subtype, cte=encoding)
        part.set_payload(_in_base64(text) if encoding == "base64" else text if text.endswith("\n") else f"{text}\n")
    return part


def _in_base64(text: str) -> str:
    """Encode with CRLF line ends, which a text has while it is MIME (RFC 2045 §6.8), in lines of 76 characters."""
    data = _ANY_BREAK.sub("\r\n", text).encode()
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    return "".join(b2a_base64(data[at : at + _BASE64_LINE]).decode() for at in range(0, len(data), _BASE64_LINE))


def _encoding(text: str) -> str:
    """Choose bare 7-bit lines, else the shorter of quoted-printable and base64.

    Never 8bit: a relay that has to convert it breaks its signature.
    """
    if not _NOT_PLAIN.search(text):
        return "7bit"
    if len(text) > _LARGE:
        return "base64"
    data = text.encode()
    return "quoted-printable" if 6 * len(data.translate(None, _ASCII)) < len(data) else "base64"


def _verify(data: bytes, names: list[str]) -> None:
    """Read our own header block back, as a relay will: generators have let a header escape (CVE-2024-6923)."""
    lines = data[: data.find(b"\r\n\r\n")].split(b"\r\n")
    found = [line.partition(b":")[0].decode("ascii", "replace") for line in lines if line[:1] not in (b" ", b"\t")]
    if found != names:
        raise CannotCompose(["headers: do not read back as they were written; look for hidden characters in them"])
    if _BARE_BREAK.search(data) or not data.endswith(b"\r\n"):
        raise CannotCompose(["the message has a bare line break, which a relay could take for its end"])
    if _LONG_LINE.search(data):
        raise CannotCompose([f"the message has a line of more than {LONGEST_LINE} bytes (RFC 5322 §2.1.1)"])
