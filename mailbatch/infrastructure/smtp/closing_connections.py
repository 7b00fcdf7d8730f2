"""Connections that have sent QUIT. The pool goes on meanwhile, and waits for their replies only at its own end."""

from __future__ import annotations

import math
import select
import time
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.connection_state import CloseReason

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.connection import Connection


class ClosingConnections:
    """Closes each connection when its relay replies or hangs up, at the latest at its ``closes_at``."""

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self._by_fd: dict[int, Connection] = {}

    def add(self, connection: Connection) -> None:
        """Add a connection that is CLOSING. Its descriptor must not be polled yet."""
        self._by_fd[connection.fd] = connection
        self._poll.register(connection.fd, select.POLLIN)

    def readable(self, fd: int) -> None:
        """Close the connection at ``fd``, if there is one: the relay has answered."""
        if fd in self._by_fd:
            self._close(fd)

    def close_overdue(self, now: float) -> float:
        """Close those that waited for long enough; return when to call again."""
        for fd in [fd for fd, one in self._by_fd.items() if one.closes_at <= now]:
            self._close(fd)
        return min((one.closes_at for one in self._by_fd.values()), default=math.inf)

    def wait(self) -> None:
        """Wait until all are closed."""
        while (ends := self.close_overdue(time.monotonic())) < math.inf:
            for fd, _ in self._poll.poll(max(0.0, ends - time.monotonic()) * 1000 + 1):
                self.readable(fd)

    def _close(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._by_fd.pop(fd).close(CloseReason.QUIT_SENT)
