"""Reads replies (RFC 5321 §4.2) from a stream of bytes, up to a maximum size, without I/O."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from mailbatch.domain.outcome import Reply

GREETING = 220
OK = 250
START_BODY = 354
CLOSING = 421

MAX_LINE = 8 * 1024
"""Bytes of a reply line. RFC 5321 §4.5.3.1.5 says 512; some relays write more."""
MAX_REPLY = 32 * 1024
"""Bytes of a reply with all its lines."""
MAX_TEXT = 500
"""Characters of a reply's text that are kept."""

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\n]*?))?\r?\n")
# Characters that break a line, a terminal or a text column of a database.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

_SEQUENCE_ERROR = re.compile(
    rb"pipelin|synchroni[sz]|out of (?:sync|sequence|order|turn)|bad sequence|protocol (?:error|violation)"
    rb"|without waiting|talk\w* (?:too soon|too early|before)"
    rb"|(?:too early|before)\b.{0,40}(?:response|reply|replies|answer|greeting|banner)",
    re.IGNORECASE,
)
"""Exim's "SMTP synchronization error", Postfix's "improper use of SMTP command pipelining" and "Protocol error" …"""


class MalformedReply(ValueError):
    """The bytes are no reply, or a reply without end. Nothing behind them can be trusted."""


class RawReply(NamedTuple):
    """A reply before decoding: its code, and the text of its lines."""

    code: int
    lines: tuple[bytes, ...]

    def decoded(self) -> Reply:
        """Return the reply for people: lines joined by a blank, printable characters, cut to ``MAX_TEXT``."""
        return Reply(self.code, printable(b" ".join(line.strip() for line in self.lines)))


class ReplyReader:
    """Takes bytes by ``feed`` and returns whole replies by ``read``."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._lines: list[bytes] = []
        self._code = 0
        self._size = 0

    def __bool__(self) -> bool:
        """Whether there are bytes that belong to no reply that was read."""
        return self._at < len(self._buffer) or bool(self._lines)

    def feed(self, data: bytes) -> None:
        """Append what was received."""
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0

    def read(self) -> RawReply | None:
        """Return the next reply, or None if it is not complete.

        Raises:
            MalformedReply: the bytes are no reply, or exceed a maximum.
        """
        if self._at == len(self._buffer):
            return None
        while (end := self._buffer.find(b"\n", self._at) + 1) > 0:
            line = self._buffer[self._at : end]
            self._at = end
            if self._take(line):
                reply = RawReply(self._code, tuple(self._lines))
                self._lines.clear()
                self._size = 0
                return reply
        if len(self._buffer) - self._at > MAX_LINE:
            raise MalformedReply(f"a reply line has more than {MAX_LINE} bytes")
        return None

    def read_good(self, count: int, last: int) -> bytes | None:
        """Take ``count`` replies if all are here, of one line, 250 each and the last one ``last``; return its text.

        Otherwise return None; ``read`` returns them one by one.
        """
        if self._lines or (found := _good(count, last).match(self._buffer, self._at)) is None:
            return None
        self._at = found.end()
        return found[1]

    def _take(self, line: bytes) -> bool:
        """Add one line to the reply; return whether it was the last one."""
        self._size += len(line)
        if len(line) > MAX_LINE or self._size > MAX_REPLY:
            raise MalformedReply(f"a reply has more than {MAX_REPLY} bytes, or {MAX_LINE} in one line")
        found = _LINE.fullmatch(line)
        if found is None:
            raise MalformedReply("what came is no SMTP reply")
        code = int(found[1])
        if self._lines and code != self._code:
            raise MalformedReply("the lines of one reply have different codes")
        self._code = code
        self._lines.append((found[3] or b"").strip())
        return found[2] != b"-"


@lru_cache(64)
def _good(count: int, last: int) -> re.Pattern[bytes]:
    # Lines up to the length of RFC 5321 §4.5.3.1.5. Longer ones are left to ``read``, which checks their size.
    return re.compile(rb"(?:250 [^\r\n]{0,508}\r\n){%d}%d ([^\r\n]{0,508})\r\n" % (count - 1, last))


def printable(text: bytes) -> str:
    """Return the text of a reply in printable characters, cut to ``MAX_TEXT``."""
    read = text.decode("utf-8", "replace").strip()
    return (read if read.isprintable() else _UNPRINTABLE.sub(" ", read).strip())[:MAX_TEXT]


def names_sequence_error(reply: RawReply) -> bool:
    """Whether a refusal says in words that commands came too early or out of sequence; no mail is to blame for it."""
    return _SEQUENCE_ERROR.search(b" ".join(reply.lines)) is not None
