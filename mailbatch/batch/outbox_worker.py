"""Deliver run reports beside the batch: in a thread of the process that ran it, which ends when nothing is left."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mailbatch.application.notifying.deliver_reports import DeliverReports
from mailbatch.domain.errors import StoreError

if TYPE_CHECKING:
    from mailbatch.bootstrap import Parts

log = logging.getLogger(__name__)

PATIENCE = 330.0
"""Seconds that the thread waits for the next try; what is due later waits for the next run, in whatever process."""


class OutboxWorker:
    """At most one thread that delivers what is in the outbox. What a crash leaves there goes after the next run."""

    def __init__(self, deliver: DeliverReports) -> None:
        self._deliver = deliver
        self._guard = threading.Lock()
        self._called = threading.Event()
        self._thread: threading.Thread | None = None

    def call(self) -> None:
        """Say that there may be something to deliver; returns at once."""
        with self._guard:
            self._called.set()
            if self._thread is None:
                # A daemon: the end of a worker does not wait for somebody else's server.
                self._thread = threading.Thread(target=self._work, name="courier", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> None:
        """Give what is on its way some time to arrive, before the process ends."""
        if (thread := self._thread) is not None:
            thread.join(seconds)

    def _work(self) -> None:
        while True:
            self._called.clear()
            again = self._round()
            with self._guard:
                if not self._called.is_set() and (again is None or again > PATIENCE):
                    self._thread = None
                    return
            self._called.wait(again)

    def _round(self) -> float | None:
        try:
            return self._deliver()
        except StoreError as error:
            log.warning("run reports wait for the database: %s", error)
            return None


_couriers: WeakKeyDictionary[Parts, OutboxWorker] = WeakKeyDictionary()


def deliver_soon(parts: Parts) -> OutboxWorker | None:
    """Deliver what waits in the outbox, beside whatever comes next; None if nobody wants reports."""
    if not parts.notifying.channels:
        return None
    courier = _couriers.setdefault(parts, OutboxWorker(DeliverReports(parts.stores.outbox, parts.notifying.channels)))
    courier.call()
    return courier
