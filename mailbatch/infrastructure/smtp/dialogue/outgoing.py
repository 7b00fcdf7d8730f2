"""The bytes that a connection is to send, and how many of them the kernel has taken."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mailbatch.domain.redaction.lines import one_line
from mailbatch.infrastructure.smtp.errors import BodyUnreadable, system_words

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stream:
    """Bytes that are read when they are sent. ``len`` is the number of those that have not been read."""

    def __init__(self, size: int, pieces: Iterator[bytes]) -> None:
        self._left = size
        self._pieces = pieces
        self._failure: BodyUnreadable | None = None

    def __len__(self) -> int:
        return self._left

    def read(self) -> bytes:
        """Return the next piece.

        Raises:
            BodyUnreadable: the piece cannot be read; every later call raises this too.
        """
        if self._failure is None:
            try:
                return self._next()
            except Exception as error:  # noqa: BLE001 (whatever it is: the mail ends here, and no other)
                self._failure = BodyUnreadable(one_line(system_words(error)))
                self._failure.__cause__ = error
        raise self._failure

    def _next(self) -> bytes:
        # BDAT announces a size. If fewer bytes came, the relay would take the next commands as a part of the body; if
        # more came, it would take the rest of them as commands.
        piece = next(self._pieces, None)
        if piece is None or len(piece) > self._left:
            raise ValueError(f"a content is {'shorter' if piece is None else 'longer'} than it was")
        self._left -= len(piece)
        return piece


class Outgoing:
    """A queue of bytes. ``queued`` and ``sent`` count from the beginning of the dialogue.

    ``_parts`` are in memory, and are sent first. ``_behind`` follows them: it begins with a stream, or is empty.
    """

    def __init__(self) -> None:
        self.queued = 0
        self.sent = 0
        self._parts: deque[bytes | memoryview] = deque()
        self._behind: deque[bytes | Stream] = deque()

    @property
    def pending(self) -> int:
        """Bytes queued that the kernel has not taken."""
        return self.queued - self.sent

    def queue(self, data: bytes) -> None:
        """Append ``data``."""
        if self._behind:
            self._behind.append(data)
        else:
            self._parts.append(data)
        self.queued += len(data)

    def queue_stream(self, size: int, pieces: Iterator[bytes]) -> None:
        """Append ``size`` bytes, which ``pieces`` yields when they are sent."""
        self._behind.append(Stream(size, pieces))
        self.queued += size

    def chunk(self, size: int) -> bytes | memoryview:
        """Return the next bytes to write, at most ``size``.

        Raises:
            BodyUnreadable: the next byte cannot be read. All bytes before it were sent.
        """
        if self._behind:
            self._read(size)
        if self.queued - self.sent <= size:
            return b"".join(self._parts)
        first = self._parts[0]
        if len(first) >= size:
            # A view, so that the rest of a large body is not copied with each write.
            first = self._parts[0] = memoryview(first)
            return first[:size]
        parts: list[bytes | memoryview] = []
        for part in self._parts:
            parts.append(part[:size])
            size -= len(parts[-1])
            if not size:
                break
        return b"".join(parts)

    def _read(self, size: int) -> None:
        """Move bytes from ``_behind`` to ``_parts``, until ``_parts`` holds ``size`` bytes."""
        here = sum(map(len, self._parts))
        while self._behind and here < size:
            first = self._behind[0]
            if isinstance(first, Stream) and len(first):
                try:
                    piece = first.read()
                except BodyUnreadable:
                    if here:
                        return  # first send the bytes before the unreadable piece
                    raise
            else:
                self._behind.popleft()
                piece = b"" if isinstance(first, Stream) else first
            self._parts.append(piece)
            here += len(piece)

    def bytes_sent(self, size: int) -> None:
        """Note that the kernel took ``size`` bytes of the chunk."""
        self.sent += size
        if self.sent == self.queued:
            self._parts.clear()
            return
        while size:
            first = self._parts.popleft()
            if len(first) > size:
                self._parts.appendleft(memoryview(first)[size:])
                break
            size -= len(first)

    def cut(self, end: int) -> None:
        """Withdraw all bytes behind the offset ``end``, which must be where something was appended."""
        while self.queued > end:
            last = (self._behind or self._parts).pop()
            self.queued -= len(last)

    def clear(self) -> None:
        """Withdraw all bytes that were not sent."""
        self._parts.clear()
        self._behind.clear()
        self.queued = self.sent
