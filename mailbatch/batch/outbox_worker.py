"""Delivers run reports in a thread of the process that ran the batch; the thread ends when nothing is left."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mailbatch.domain.errors import StoreError

if TYPE_CHECKING:
    from mailbatch.application.notifying.deliver_reports import DeliverReports
    from mailbatch.bootstrap.notifying import Notifying

log = logging.getLogger(__name__)

PATIENCE = 330.0
"""Seconds for which the thread waits for the next try. What is due later waits for the next run, in any process."""


class OutboxWorker:
    """At most one thread, which delivers what is in the outbox.

    Reports that a crash left there are delivered after the next run.
    """

    def __init__(self, deliver: DeliverReports) -> None:
        self._deliver = deliver
        self._guard = threading.Lock()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Deliver what is in the outbox; returns at once."""
        with self._guard:
            self._woken.set()
            if self._thread is None:
                # A daemon thread: the end of a worker does not wait for somebody else's server.
                self._thread = threading.Thread(target=self._work, name="outbox-worker", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for the deliveries in progress, at most ``seconds``, before the process ends."""
        if (thread := self._thread) is not None:
            thread.join(seconds)

    def _work(self) -> None:
        while True:
            self._woken.clear()
            wait = self._deliver_due()
            with self._guard:
                if not self._woken.is_set() and (wait is None or wait > PATIENCE):
                    self._thread = None
                    return
            self._woken.wait(wait)

    def _deliver_due(self) -> float | None:
        """Return the seconds until the next try; None if there is none, or the database is unavailable."""
        try:
            return self._deliver()
        except StoreError as error:
            log.warning("run reports wait for the database: %s", error)
            return None


_workers: WeakKeyDictionary[Notifying, OutboxWorker] = WeakKeyDictionary()


def deliver_soon(notifying: Notifying) -> OutboxWorker | None:
    """Start delivering what is in the outbox, and return the worker that does; None if there is no channel."""
    if (deliver := notifying.deliver_reports) is None:
        return None
    worker = _workers.setdefault(notifying, OutboxWorker(deliver))
    worker.wake()
    return worker
