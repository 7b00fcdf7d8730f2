"""Writes any text in ASCII: encoded words (RFC 2047) in headers, percent-encoding (RFC 2231) in parameters."""

from __future__ import annotations

import re
from binascii import b2a_base64
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 76
"""The longest line that holds an encoded word, in characters (RFC 2047 §2)."""
FOLD = "\r\n "

_FRAME = len("=?utf-8?q??=")
_ROOM = WIDTH - len(" ") - _FRAME
# Room for the longest character, which takes twelve: "=F0=9F=98=80".
_LEAST = 12
# RFC 2047 §5 (3): these need no encoding, even in a display name.
_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/"
_Q = tuple("_" if byte == ord(" ") else chr(byte) if byte in _SAFE else f"={byte:02X}" for byte in range(256))
_PARAMETER = 58
# Bytes of an encoded word on a line that begins with a blank, the name of the parameter and a quotation mark.
_IN_QUOTES = (WIDTH - len(' name=""') - _FRAME) // 4 * 3
# Texts that all mail programs read alike between quotes: nothing to escape, nothing encoded, no blanks that are lost.
_QUOTABLE = re.compile(r"[!#-<>-\[\]-~]+(?: [!#-<>-\[\]-~]+)*")


def encoded_words(text: str, before: int) -> str:
    """Return ``text`` as encoded words on folded lines. The first line has ``before`` characters already.

    Each word holds whole characters (RFC 2047 §5). Raises ``UnicodeEncodeError`` for a lone surrogate.
    """
    data = text.encode()
    room = min(max(WIDTH - before - _FRAME, _LEAST), _ROOM)
    if len(data) + 2 * len(data.translate(None, _SAFE + b" ")) <= 4 * -(-len(data) // 3):
        coded = "".join(map(_Q.__getitem__, data))
        return FOLD.join([f"=?utf-8?q?{word}?=" for word in _split_coded(coded, "=", room, _ROOM)])
    words = [data] if 4 * -(-len(data) // 3) <= room else _split_utf8(data, room // 4 * 3, _ROOM // 4 * 3)
    return FOLD.join([f"=?utf-8?b?{b2a_base64(word, newline=False).decode()}?=" for word in words])


def parameter(name: str, value: str) -> str:
    """Return the parameter ``name`` of a MIME header as ``; name=value``, each piece on its own line."""
    if len(value) <= _PARAMETER and _QUOTABLE.fullmatch(value):
        return f';{FOLD}{name}="{value}"'
    pieces = list(_split_coded(quote(value, safe=""), "%", _PARAMETER, _PARAMETER))
    if len(pieces) == 1:
        return f";{FOLD}{name}*=utf-8''{pieces[0]}"
    marked = ["utf-8''" + pieces[0], *pieces[1:]]
    return "".join(f";{FOLD}{name}*{number}*={piece}" for number, piece in enumerate(marked))


def parameter_in_words(name: str, value: str) -> str:
    """Return the parameter ``name`` as encoded words in quotes, or plainly if it is short and plain.

    RFC 2047 §5 forbids the words there. Outlook and others read nothing else, so it is written beside ``parameter``.
    """
    if _QUOTABLE.fullmatch(value):
        return f';{FOLD}{name}="{value}"'
    words = _split_utf8(value.encode(), _IN_QUOTES, _IN_QUOTES)
    coded = FOLD.join([f"=?utf-8?B?{b2a_base64(word, newline=False).decode()}?=" for word in words])
    return f';{FOLD}{name}="{coded}"'


def _split_coded(coded: str, mark: str, first: int, most: int) -> Iterator[str]:
    """Split ``coded`` so that each piece holds whole characters; ``mark`` begins the two digits of a byte."""
    start, end = 0, first
    while end < len(coded):
        if mark in coded[end - 2 : end]:
            end = coded.rindex(mark, end - 2, end)
        while coded[end] == mark and coded[end + 1] in "89AB":
            end -= 3
        yield coded[start:end]
        start, end = end, end + most
    yield coded[start:]


def _split_utf8(data: bytes, first: int, most: int) -> Iterator[bytes]:
    """Split UTF-8 so that each piece holds whole characters."""
    start, end = 0, first
    while end < len(data):
        while data[end] & 0xC0 == 0x80:  # noqa: PLR2004 - a byte within a character (RFC 3629 §3)
            end -= 1
        yield data[start:end]
        start, end = end, end + most
    yield data[start:]
