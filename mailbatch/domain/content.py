"""Bytes that are read in pieces, because they may be too many for memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 64 * 1024
"""Bytes of a piece at most."""


class Content(Protocol):
    """Bytes that are kept elsewhere. They do not change while this value is in use."""

    @property
    def size(self) -> int:
        """How many bytes it has."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in order, at most ``PIECE`` at once. It may be called again, also before the last has ended.

        Raises:
            MailbatchError: the bytes cannot be read to their end; the text says why, in one line.
        """


def beginning_of(content: bytes | Content) -> bytes:
    """Return the first ``PIECE`` bytes at most. Raises as ``Content.pieces``."""
    return content[:PIECE] if isinstance(content, bytes) else next(iter(content.pieces()), b"")


def size_of(content: bytes | Content) -> int:
    """Return its bytes."""
    return len(content) if isinstance(content, bytes) else content.size


class LineContent(Content, Protocol):
    """Content that is a part of a message, and what its lines are like."""

    @property
    def lines(self) -> Lines:
        """What its lines are like."""


@dataclass(frozen=True, slots=True)
class ContentInMemory:
    """Content that is small enough to be held as one value."""

    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.data)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in order."""
        for start in range(0, len(self.data), PIECE):
            yield self.data[start : start + PIECE]


@dataclass(frozen=True, slots=True)
class Lines:
    """What must be known of text before it is sent by SMTP. It is found once, not for each mail.

    ``dotted``: lines that begin with a dot; RFC 5321 §4.5.2 adds another dot to each. ``are_whole``: each line ends
    with CRLF, and there is no other CR or LF. ``are_ascii``: no byte is above 127.
    """

    dotted: int = 0
    are_whole: bool = True
    are_ascii: bool = True

    def __add__(self, other: Lines) -> Lines:
        """Return what both together are like, one behind the other."""
        return Lines(self.dotted + other.dotted, self.are_whole and other.are_whole, self.are_ascii and other.are_ascii)


class LineScan:
    """Finds the ``Lines`` of a text that comes in pieces of any size."""

    def __init__(self) -> None:
        self._before = b"\r\n"
        """The last two bytes. The text begins as after a line."""
        self._dotted = self._pairs = self._returns = self._feeds = 0
        self._are_ascii = True

    def add(self, piece: bytes) -> None:
        """Take in the next piece."""
        before = self._before
        self._dotted += piece.count(b"\r\n.") + (before + piece[:2]).count(b"\r\n.")
        self._pairs += piece.count(b"\r\n") + (before[-1:] + piece[:1]).count(b"\r\n")
        self._returns += piece.count(b"\r")
        self._feeds += piece.count(b"\n")
        self._are_ascii = self._are_ascii and piece.isascii()
        self._before = (before + piece[-2:])[-2:]

    def lines(self) -> Lines:
        """Return what the lines so far are like."""
        are_whole = self._pairs == self._returns == self._feeds and self._before == b"\r\n"
        return Lines(self._dotted, are_whole, self._are_ascii)


def lines_of(data: bytes) -> Lines:
    """Return what the lines of ``data`` are like."""
    scan = LineScan()
    scan.add(data)
    return scan.lines()


def has_crlf_only(data: bytes) -> bool:
    """Return whether ``data`` has no CR and no LF but those of CRLF."""
    if len(data) > PIECE:
        return data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r")
    # Copies cost a fifth of counting, which looks at each byte; of a large text they would take memory.
    return data.replace(b"\r", b"").replace(b"\n", b"\r\n") == data
