"""Write header fields: RFC 5322 lines of pure ASCII, whatever script their text is in.

The words are encoded by ``email.header`` (RFC 2047). The folding of ``EmailMessage`` is not used: on Python 3.11.7 it
encodes the comma between two mailboxes as text, so that a recipient disappears, and puts blanks where none were.
"""

from __future__ import annotations

import re
from email.header import Header
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailbatch.domain.message import Address

_WIDTH = 76
_FOLD = "\r\n "
_LONGEST_WORD = 900
# RFC 5322 §3.2.3: what may stand in a phrase without quotes.
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LONGEST_QUOTED = 64
_SPECIAL = re.compile(r'(["\\])')


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
