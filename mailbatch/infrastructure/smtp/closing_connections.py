"""Says farewell to a relay (QUIT, RFC 5321 §4.1.1.10) while other connections go on: nobody waits for its answer."""

from __future__ import annotations

import math
import select
import time
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.pooled_connection import hang_up

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.connection import Connection
    from mailbatch.infrastructure.smtp.transport_config import TransportConfig

_PATIENCE = 1.0
"""Seconds to wait for the answer to QUIT."""


class ClosingConnections:
    """The connections that have said QUIT. They are closed by what the relay does next, or after a second."""

    def __init__(self, poll: select.poll, terms: TransportConfig) -> None:
        self._poll = poll
        self._terms = terms
        self._leaving: dict[int, tuple[Connection, float]] = {}

    def say(self, connection: Connection, fd: int) -> None:
        """Say QUIT on an idle connection, whose descriptor is not being polled; it is ours from now on."""
        if connection.say_quit():
            self._leaving[fd] = connection, time.monotonic() + _PATIENCE
            self._poll.register(fd, select.POLLIN)
        else:
            hang_up(connection, self._terms)

    def heard(self, fd: int) -> None:
        """Something has come at ``fd``: if it is one of ours, the relay has answered."""
        if fd in self._leaving:
            self._end(fd)

    def overdue(self, now: float) -> float:
        """Close what waited for long enough; answer when to ask again."""
        for fd in [fd for fd, (_, ends) in self._leaving.items() if ends <= now]:
            self._end(fd)
        return min((ends for _, ends in self._leaving.values()), default=math.inf)

    def wait(self) -> None:
        """Wait until all are closed."""
        while (ends := self.overdue(time.monotonic())) < math.inf:
            for fd, _ in self._poll.poll(max(0.0, ends - time.monotonic()) * 1000 + 1):
                self.heard(fd)

    def _end(self, fd: int) -> None:
        connection, _ = self._leaving.pop(fd)
        self._poll.unregister(fd)
        hang_up(connection, self._terms)
