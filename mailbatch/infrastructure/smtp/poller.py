"""Waits for sockets, for other threads, and for the time at which something is due."""

from __future__ import annotations

import select
import time

from mailbatch.infrastructure.smtp.connect_attempt import Waker


class Poller:
    """One for each loop: its sockets, the time of its next tick, and what wakes it from other threads."""

    def __init__(self) -> None:
        self.poll = select.poll()
        self.tick_at = time.monotonic()
        self.waker_fd = -1
        self._waker: Waker | None = None

    def wait(self, now: float) -> list[tuple[int, int]]:
        """Wait until something comes, can be written, or is due; return the descriptors that are ready, and why."""
        return self.poll.poll(max(0.0, self.tick_at - now) * 1000 + 1)

    def tick_by(self, at: float) -> None:
        """Make ``wait`` return at ``at`` at the latest, on the monotonic clock."""
        self.tick_at = min(self.tick_at, at)

    def waker(self) -> Waker:
        """Return the waker, by which any thread ends a ``wait``: ``waker_fd`` is then ready until ``clear_waker``."""
        if self._waker is None:
            self._waker = Waker()
            self.waker_fd = self._waker.ear.fileno()
            self.poll.register(self.waker_fd, select.POLLIN)
        return self._waker

    def clear_waker(self) -> None:
        """Forget that the waker was called."""
        if self._waker is not None:
            self._waker.clear()

    def close(self) -> None:
        """Close the waker."""
        if self._waker is not None:
            self._waker.close()
