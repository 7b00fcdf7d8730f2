"""Encodes bodies: texts as 7bit, quoted-printable or base64 (RFC 2045 §6), files as base64.

``binascii`` does all of it in bulk. Large bodies are encoded in pieces, so that memory never holds a mail more than
twice.
"""

from __future__ import annotations

import re
from binascii import b2a_base64, b2a_qp
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Encoding: TypeAlias = Literal["7bit", "quoted-printable", "base64"]

_PIECE = 262_144
"""About how many characters are encoded at a time."""
_LONGEST_PLAIN = 76
ROW = 57
"""Bytes that make the 76 characters of a line of base64."""
_ANY_BREAK = re.compile(r"\r\n|\r|\n")
# ``b2a_qp`` makes this line of 74 characters and a blank, because it counts a final blank before it encodes it.
_TOO_WIDE = re.compile(rb"^([^\n]{74})(=20|=09)\r$", re.MULTILINE)
# Some relay might change any other byte.
_PLAIN = bytes([*b"\t\r\n", *range(ord(" "), 0x7F)])


def encoded_text(text: str) -> tuple[Encoding, list[bytes]]:
    """Return the best encoding of ``text``, and its pieces: CRLF line ends, lines of at most 76 characters, ASCII.

    It is never 8bit, because a relay that has to convert it breaks the signature. Raises ``UnicodeEncodeError`` for a
    lone surrogate.
    """
    pieces = [_in_crlf(text)] if len(text) <= _PIECE else [_in_crlf(piece) for piece in _split_at_lines(text)]
    if not pieces[-1].endswith(b"\n"):
        pieces[-1] += b"\r\n"
    strange = sum([len(piece.translate(None, _PLAIN)) for piece in pieces])
    if not strange and all(_is_narrow(piece) for piece in pieces):
        return "7bit", pieces
    if 6 * strange < sum(map(len, pieces)):
        for at, piece in enumerate(pieces):
            pieces[at] = quoted_printable(piece)
        return "quoted-printable", pieces
    _into_base64(pieces)
    return "base64", pieces


def encoded_file(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a file in base64, in lines of 76 characters with CRLF. ``pieces`` are its bytes, cut anywhere."""
    rest = b""
    for piece in pieces:
        data = rest + piece
        whole = len(data) // ROW * ROW
        if whole:
            yield base64_rows(data[:whole])
        rest = data[whole:]
    if rest:
        yield base64_rows(rest)


def _split_at_lines(text: str) -> Iterator[str]:
    """Split a text behind line ends."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _PIECE) + 1 or len(text)
        yield text[start:end]
        start = end


def _in_crlf(text: str) -> bytes:
    """Return ``text`` with CRLF as its only line break (RFC 2046 §4.1.1)."""
    if "\r" in text:
        return _ANY_BREAK.sub("\r\n", text).encode()
    return text.encode().replace(b"\n", b"\r\n")


def _is_narrow(data: bytes) -> bool:
    return max(map(len, data.split(b"\r\n"))) <= _LONGEST_PLAIN


def quoted_printable(data: bytes) -> bytes:
    """Return ``data`` quoted-printable, in lines of at most 76 characters (RFC 2045 §6.7, rule 5)."""
    coded = b2a_qp(data, istext=True)
    if b"=20\r\n" in coded or (b"\t" in data and b"=09\r\n" in coded):
        return _TOO_WIDE.sub(rb"\1=\r\n\2\r", coded)
    return coded


def _into_base64(pieces: list[bytes]) -> None:
    """Replace each piece by its encoding; an incomplete last line is moved to the next piece."""
    rest = b""
    for at, piece in enumerate(pieces):
        data = rest + piece
        whole = len(data) // ROW * ROW
        pieces[at], rest = base64_rows(data[:whole]), data[whole:]
    pieces.append(base64_rows(rest))


def base64_rows(data: bytes) -> bytes:
    """Return ``data`` in lines of base64; only the last piece of a body may end within a line."""
    if not data:
        return b""
    coded = b2a_base64(data, newline=False)
    rows = [coded[at : at + 76] for at in range(0, len(coded), 76)]
    rows.append(b"")
    return b"\r\n".join(rows)
