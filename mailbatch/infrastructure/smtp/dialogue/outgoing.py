"""The bytes that a connection is to send, and how many of them the kernel has taken."""

from __future__ import annotations

from collections import deque


class Outgoing:
    """A queue of bytes. ``queued`` and ``sent`` count from the beginning of the dialogue."""

    def __init__(self) -> None:
        self.queued = 0
        self.sent = 0
        self._parts: deque[bytes | memoryview] = deque()

    @property
    def pending(self) -> int:
        """Bytes queued that the kernel has not taken."""
        return self.queued - self.sent

    def queue(self, data: bytes) -> None:
        """Append ``data``."""
        self._parts.append(data)
        self.queued += len(data)

    def chunk(self, size: int) -> bytes | memoryview:
        """Return the next bytes to write, at most ``size``."""
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

    def bytes_sent(self, size: int) -> None:
        """Note that the kernel took so many bytes of the chunk."""
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
        """Withdraw all bytes behind the offset ``end``."""
        while self.queued > end:
            last = self._parts.pop()
            self.queued -= len(last)
            if self.queued < end:
                self._parts.append(last[: end - self.queued])
                self.queued = end

    def clear(self) -> None:
        """Withdraw all bytes that were not sent."""
        self._parts.clear()
        self.queued = self.sent
