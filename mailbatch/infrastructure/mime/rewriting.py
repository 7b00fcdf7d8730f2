"""Writes the body of a finished message with its edits, and with CRLF line ends, piece by piece."""

from __future__ import annotations

from binascii import a2b_qp
from typing import TYPE_CHECKING

from mailbatch.domain.content import PIECE, LineScan, has_crlf_only
from mailbatch.infrastructure.mime.bodies import ROW, base64_rows, quoted_printable
from mailbatch.infrastructure.mime.message_header import BREAK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mailbatch.domain.content import Content
    from mailbatch.infrastructure.mime.region import Edit

_WIDTH = 76
"""Characters of a line of base64."""
_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NO_DIGITS = bytes(sorted(set(range(256)) - set(_DIGITS)))
_LONGEST_LINE = 65_536


class Rewritten:
    """A kept body with its edits: the port ``LineContent``. It is written anew whenever it is read.

    So it takes no second place, and what cannot be written is known when this is made.
    """

    def __init__(self, body: Content, edits: Sequence[Edit]) -> None:
        self._body, self._edits = body, edits
        self.size, scan = 0, LineScan()
        for piece in self.pieces():
            self.size += len(piece)
            scan.add(piece)
        self.lines = scan.lines()

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in order. Raises what reading ``body`` raises."""
        for piece in rewritten(self._body.pieces(), self._edits):
            for start in range(0, len(piece), PIECE):
                yield piece[start : start + PIECE]


def rewritten(body: Iterable[bytes], edits: Sequence[Edit]) -> Iterator[bytes]:
    """Yield ``body`` with ``edits``, which are in the order of its bytes.

    What is between them gets CRLF line ends. A body that is not empty ends with one.
    """
    end = b"\r\n"
    for piece in _rewritten(body, edits):
        if piece:
            end = (end + piece[-2:])[-2:]
            yield piece
    if end != b"\r\n":
        yield b"\r\n"


def _rewritten(body: Iterable[bytes], edits: Sequence[Edit]) -> Iterator[bytes]:
    source, at = _Source(body), 0
    for edit in edits:
        yield from with_crlf(source.take(edit.start - at))
        yield from _edited(edit, source.take(edit.end - edit.start))
        at = edit.end
    yield from with_crlf(source.take(None))


def with_crlf(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``pieces`` with CRLF in place of each CR, LF and CR LF."""
    rest = b""
    for piece in pieces:
        data = rest + piece
        rest = b"\r" if data.endswith(b"\r") else b""
        data = data.removesuffix(rest)
        if not has_crlf_only(data):
            data = BREAK.sub(b"\r\n", data)
        yield data
    if rest:
        yield b"\r\n"


class _Source:
    """Pieces, of which so many bytes are taken at a time."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def take(self, size: int | None) -> Iterator[bytes]:
        """Yield the next ``size`` bytes; None: all that are left."""
        while size is None or size > 0:
            piece = self._rest or next(self._pieces, b"")
            if not piece:
                return
            self._rest = b"" if size is None else piece[size:]
            if size is not None:
                piece = piece[:size]
                size -= len(piece)
            yield piece


def _edited(edit: Edit, pieces: Iterable[bytes]) -> Iterator[bytes]:
    if edit.how == "bytes":
        for _ in pieces:  # what is replaced is passed over
            pass
        yield edit.new
    elif edit.decode == "base64":
        yield from _in_rows((piece.translate(None, _NO_DIGITS) for piece in pieces), _WIDTH, _cut)
    else:
        if not edit.keeps_breaks or edit.decode:
            pieces = with_crlf(pieces)
        if edit.decode == "quoted-printable":
            pieces = (a2b_qp(lines) for lines, _ in _lines(pieces))
        yield from _in_rows(pieces, ROW, base64_rows) if edit.how == "base64" else _quoted(pieces)


def _quoted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for lines, are_whole in _lines(pieces):
        if lines.endswith(b"\r\n"):
            yield quoted_printable(lines)
        else:
            # Without any CRLF b2a_qp would write a bare LF.
            yield quoted_printable(lines + b"\r\n").removesuffix(b"\r\n")
        if not are_whole:
            yield b"=\r\n"


def _lines(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Cut ``pieces`` anew behind lines; yield each, and False if a line goes on, because it is very long."""
    rest = b""
    for piece in pieces:
        data = rest + piece
        cut, are_whole = data.rfind(b"\n") + 1, True
        if not cut and len(data) > _LONGEST_LINE:
            # Three bytes of quoted-printable stay together.
            cut, are_whole = len(data) - (2 if b"=" in data[-2:] else 0), False
        if cut:
            yield data[:cut], are_whole
        rest = data[cut:]
    if rest:
        yield rest, True


def _in_rows(pieces: Iterable[bytes], width: int, rows: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """Yield ``pieces`` in ``rows``, each of ``width`` bytes but the last one, which gets no line end."""
    rest = b""
    for piece in pieces:
        data = rest + piece
        cut = max(len(data) - 1, 0) // width * width
        if cut:
            yield rows(data[:cut])
        rest = data[cut:]
    yield rows(rest).removesuffix(b"\r\n")


def _cut(data: bytes) -> bytes:
    return b"".join([data[at : at + _WIDTH] + b"\r\n" for at in range(0, len(data), _WIDTH)])
