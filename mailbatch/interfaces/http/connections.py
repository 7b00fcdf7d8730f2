"""Closes HTTP connections whose clients are too slow, so that silent clients do not block others."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds within which a whole request must arrive …"""
SLOWEST = 1000
"""… plus a second for so many bytes of it (as ``RequestReadTimeout`` of Apache's mod_reqtimeout)."""
MOST_WAITING = 200
"""Connections that wait for their clients at the same time. One more closes the one that has waited longest."""
BACKLOG = 128
"""Connections that the kernel accepts at once, before any of them can be closed."""
_SAY_AGAIN = 60.0
"""Seconds between two log lines about closed connections."""


class TimedConnection(H11Protocol):
    """One connection. It waits for its client until a request is complete, and again after the response."""

    _said_at: ClassVar[float] = -math.inf

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waits_since: float | None = None
        self._received = 0
        self._unread: float = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request."""
        self._received += len(data)
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._wait_no_more()
        super().connection_lost(exc)

    def end(self) -> None:
        """Close it at once. A client in the middle of a request gets no response."""
        self._wait_no_more()
        self.transport.abort()

    def _look(self) -> None:
        """Start or stop waiting, as the state of the connection requires."""
        waits = self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        if not waits:
            self._wait_no_more()
        elif self.waits_since is None:
            self.waits_since, self._received, self._unread = self.loop.time(), 0, math.inf
            self._timer = self.loop.call_later(PATIENCE, self._judge)
            self._make_room()

    def _wait_no_more(self) -> None:
        self.waits_since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _judge(self) -> None:
        """Close the connection if it waits too long, unless a request is in progress."""
        assert self.waits_since is not None  # noqa: S101 - the timer ends with it
        left = self.waits_since + PATIENCE + self._received / SLOWEST - self.loop.time()
        before, self._unread = self._unread, self.transport.get_write_buffer_size()
        takes_its_response = 0 < self._unread < before
        # Reading is paused: the server is slow here, not the client.
        if left > 0 or takes_its_response or self.flow.read_paused:
            self._timer = self.loop.call_later(left if left > 0 else PATIENCE, self._judge)
        else:
            self.end()

    def _make_room(self) -> None:
        all_of_them = self.server_state.connections
        waiting = [c for c in all_of_them if isinstance(c, TimedConnection) and c.waits_since is not None]
        if len(waiting) > MOST_WAITING:
            min(waiting, key=lambda c: c.waits_since or 0.0).end()
            self._say_so()

    def _say_so(self) -> None:
        now = self.loop.time()
        if now - TimedConnection._said_at > _SAY_AGAIN:
            TimedConnection._said_at = now
            log.warning("more than %d connections wait for their clients; the oldest of them are closed", MOST_WAITING)
