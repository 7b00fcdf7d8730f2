"""Write a letter as MIME (RFC 2045–2049) by the standard library: slow and right, the measure of the fast writer.

Structure and bodies are ``EmailMessage``'s, header words ``email.header``'s. The folding of ``EmailMessage`` is not
used: on Python 3.11.7 it encodes the comma between two mailboxes as text, so that a recipient disappears.
"""

from __future__ import annotations

import re
import secrets
from binascii import b2a_base64
from email.generator import BytesGenerator
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from io import BytesIO
from typing import TYPE_CHECKING

from mailbatch.domain.errors import CannotCompose

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailbatch.domain.letter import Letter
    from mailbatch.domain.message import Address

LONGEST_LINE = 998
"""Bytes of a line without its CRLF (RFC 5322 §2.1.1)."""

_MESSAGE_ID = re.compile(r"[!-;=?-~]+@[!-;=?-~]+")
_BARE_BREAK = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_LONG_LINE = re.compile(rb"^[^\n]{%d}" % (LONGEST_LINE + len("\r") + 1), re.MULTILINE)
# Long lines, and characters that some relay might not leave as they are.
_NOT_PLAIN = re.compile(r"[^\t\r\n -~]|(?:^|\r)[^\r\n]{77}", re.MULTILINE)
_WIDTH = 76
_FOLD = "\r\n "
_LONGEST_WORD = 900
# RFC 5322 §3.2.3: what may stand in a phrase without quotes.
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LONGEST_QUOTED = 64
_SPECIAL = re.compile(r'(["\\])')
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


def text_field(name: str, value: str) -> bytes:
    """Answer the field ``name`` with free text (RFC 5322 §2.2.1), folded, ending with CRLF.

    White space around ``value`` is dropped, for no reader keeps it.
    """
    return _field(name, _words(name, value.strip()))


def address_field(name: str, addresses: Iterable[Address]) -> bytes:
    """Answer the field ``name`` with a list of mailboxes (RFC 5322 §3.4), each on a line of its own.

    A local part beyond ASCII stands there in UTF-8 (RFC 6532 §3.2); display names are encoded words even then.
    """
    return _field(name, ",\r\n ".join(map(_mailbox, addresses)))


def plain_field(name: str, value: str) -> bytes:
    """Answer the field ``name`` with ``value`` exactly as it is (RFC 5322 §3.6: dates, message ids)."""
    return _field(name, value)


def _field(name: str, value: str) -> bytes:
    return f"{name}: {value}\r\n".encode()


def _words(name: str, text: str) -> str:
    """Fold ASCII at its blanks; make anything else encoded words."""
    if not _is_plain(text):
        return _encoded(text, name)
    if len(name) + 2 + len(text) <= _WIDTH:
        return text
    return Header(text, "us-ascii", maxlinelen=_WIDTH, header_name=name).encode(linesep="\r\n")


def _is_plain(text: str) -> bool:
    """Whether readers take ``text`` for what it is: no control characters, and nothing that looks encoded."""
    if not text.isascii() or not text.isprintable() or "=?" in text:
        return False
    return all(len(word) <= _LONGEST_WORD for word in text.split(" "))


def _encoded(text: str, name: str) -> str:
    return Header(text, "utf-8", maxlinelen=_WIDTH, header_name=name).encode(linesep="\r\n")


def _mailbox(address: Address) -> str:
    if not address.display_name:
        return address.addr_spec
    phrase = _phrase(address.display_name)
    fits = len(phrase) + len(address.addr_spec) < _WIDTH - len("Reply-To:  <>,")
    return f"{phrase}{' ' if fits else _FOLD}<{address.addr_spec}>"


def _phrase(name: str) -> str:
    if not _is_plain(name) or len(name) > _LONGEST_QUOTED:
        return _encoded(name, "Reply-To")
    if _ATOMS.fullmatch(name):
        return name
    return '"' + _SPECIAL.sub(r"\\\1", name) + '"'
