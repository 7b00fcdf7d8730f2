"""Cuts a mail folder in one file (mbox, RFC 4155) into its messages, with one message in memory at a time."""

from __future__ import annotations

import io
import re
from enum import StrEnum
from typing import IO, TYPE_CHECKING

from mailbatch.application.acting.records import UnreadableFile

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 2**16
"""Bytes of a line that are read at once."""
# A program that writes a mailbox puts a time into this line; a paragraph that begins with "From" seldom has one.
_SEPARATOR = re.compile(rb"From .*\d:\d\d\b.*\b\d{4}\b")
_LONGEST_SEPARATOR = 256
_QUOTED = re.compile(rb">+From ")
_CONTENT_LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*(\d{1,12})[ \t]*\r?\n?", re.IGNORECASE)


class Mbox(StrEnum):
    """How lines of a text that begin with ``From`` are written, so that none is taken for the next message."""

    QUOTED = "mboxrd"
    """Each gets a ``>``, and so does each that begins with ``>From``, ``>>From`` …"""
    QUOTED_ONCE = "mboxo"
    """Each gets a ``>``, but ``>From`` stays as it is."""
    BY_LENGTH = "mboxcl2"
    """As they are: each message says by Content-Length how long its text is."""


class TooLong:
    """In place of a message that is longer than any that can be sent."""


def read_mbox(file: IO[bytes], largest: int, style: Mbox = Mbox.QUOTED) -> Iterator[tuple[int, bytes | TooLong]]:
    """Yield each message of ``file`` and the line at which it begins, counted from 1.

    ``largest``: bytes of a message at most; a longer one is not held. A Content-Length counts where it leads to the
    end of the file or to the next message: other programs leave wrong ones. The last message may lack its line end.

    Raises:
        UnreadableFile: the file does not begin as an mbox does.
    """
    lines = _Lines(file)
    separator = lines.next()
    if separator and not separator.removeprefix(b"\xef\xbb\xbf").startswith(b"From "):
        raise UnreadableFile("is no mbox: its first line does not begin with 'From '")
    while separator:
        number = lines.number
        message = _Message(largest, style)
        separator = _read_message(lines, message)
        yield number, message.bytes()


def _read_message(lines: _Lines, message: _Message) -> bytes:
    """Read up to the next separator, and return that; an empty line at the end of the file."""
    length = None
    while (line := lines.next()) and not _is_separator(line):
        message.add(line)
        if found := _CONTENT_LENGTH.fullmatch(line):
            length = int(found[1])
        if not line.strip(b"\r\n"):
            break
    else:
        return line
    if length is not None and (after := lines.skip(length, message)) is not None:
        return after
    while (line := lines.next()) and not (lines.is_whole_start and _is_separator(line)):
        message.add_text(line, begins=lines.is_whole_start)
    return line


def _is_separator(line: bytes) -> bool:
    return line.startswith(b"From ") and _SEPARATOR.match(line[:_LONGEST_SEPARATOR]) is not None


class _Lines:
    """The lines of a file, long ones in pieces. ``number``: of the line that was read last."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.number = 0
        self.is_whole_start = True
        """Whether the last piece is the beginning of a line."""
        self._ended = True

    def next(self) -> bytes:
        """Return the next line, or the next piece of a long one; nothing at the end."""
        piece = self._file.readline(_PIECE)
        self.is_whole_start = self._ended
        self.number += self._ended and bool(piece)
        self._ended = piece.endswith(b"\n")
        return piece

    def skip(self, length: int, message: _Message) -> bytes | None:
        """Take ``length`` bytes into ``message`` if a message ends there; return the separator behind them.

        Otherwise return None, and nothing is read. A pipe cannot be read twice: there nothing is tried.
        """
        if not self._file.seekable() or length > message.room:
            return None
        start = self._file.tell()
        body = self._file.read(length)
        behind, blank = self._file.readline(_PIECE), 0
        while behind and not behind.strip(b"\r\n"):
            blank, behind = blank + 1, self._file.readline(_PIECE)
        if len(body) < length or (behind and not _is_separator(behind)):
            self._file.seek(start)
            return None
        message.add_whole_text(body)
        self.number += body.count(b"\n") + blank + bool(behind)
        return behind


class _Message:
    """The bytes of a message that is being read."""

    def __init__(self, largest: int, style: Mbox) -> None:
        self.room = largest
        self._style = style
        self._lines: list[bytes] = []
        self._has_end_mark = True

    def add(self, line: bytes) -> None:
        """Take in a line as it is."""
        self.room -= len(line)
        if self.room >= 0:
            self._lines.append(line)

    def add_text(self, line: bytes, *, begins: bool) -> None:
        """Take in a line of the text, without the mark that the mailbox has added to it."""
        if begins and self._style is not Mbox.BY_LENGTH and (found := _QUOTED.match(line)):
            line = line[1:] if self._style is Mbox.QUOTED or found[0] == b">From " else line
        self.add(line)

    def add_whole_text(self, text: bytes) -> None:
        """Take in the whole text, of which no empty line is the mailbox's."""
        self._has_end_mark = False
        for line in io.BytesIO(text):
            self.add_text(line, begins=True)

    def bytes(self) -> bytes | TooLong:
        """Return the message without the empty line that a mailbox has behind each."""
        if self.room < 0:
            return TooLong()
        if self._has_end_mark and self._lines[-1:] in ([b"\n"], [b"\r\n"]):
            del self._lines[-1]
        return b"".join(self._lines)
