"""Calls callbacks every few seconds while a run works, each in a thread of its own."""

from __future__ import annotations

import logging
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Self

from mailbatch.domain.redaction.addresses import public

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_JOIN_TIMEOUT = 2.0
"""Seconds for which the end of a run waits for each callback: one may hang in a dead connection."""


class PeriodicTasks:
    """Threads that renew locks, write heartbeats and show progress until the ``with`` block ends.

    Each callback has its own thread, so that a database that hangs does not let the lock expire, nor a Redis that hangs
    the leases. A callback that fails is logged once for each outage, and called again at its next turn. A callback that
    must react when it keeps failing does so itself (a lock that cannot be renewed is lost).
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` every so many seconds; the first call comes after that time."""
        name = f"every-{seconds:g}-s-{getattr(callback, '__name__', 'callback')}"
        # A new thread has an empty context. With a copy of ours its log lines carry the run's id.
        in_context = copy_context().run
        thread = threading.Thread(target=in_context, args=(self._repeat, seconds, callback), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _repeat(self, seconds: float, callback: Callable[[], None]) -> None:
        failing = False
        while not self._over.wait(seconds):
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - the run goes on, and the callback is called again
                if not failing:
                    log.warning(
                        "a periodic task failed, will be tried again: %s", public(f"{type(error).__name__}: {error}")
                    )
                failing = True
            else:
                failing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=_JOIN_TIMEOUT)
