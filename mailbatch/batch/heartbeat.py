"""The worker's heartbeat: it goes on while the consumer's loop turns, and stops when that is stuck."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from mailbatch import config
from mailbatch.infrastructure.system.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = 2.0
"""Seconds between two signs of life."""
STUCK = 15.0
"""Seconds without a turn of the loop after which it counts as stuck; a call to a frozen Redis ends after five."""


class WorkerHeartbeat(bootsteps.StartStopStep):  # type: ignore[misc]
    """Gives signs of life from a thread, as long as the loop of the main thread turns or has a reason not to.

    The reasons are that the worker waits for its broker (a restart would only end the run in progress, which needs
    none), and that it stops, where the last mails may take their time.
    """

    requires = {"celery.worker.components:Timer"}  # noqa: RUF012 - Celery's way

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._heartbeat = Heartbeat(config.load().heartbeat_file)
        self._pulse = Pulse(time.monotonic)

    def include_if(self, _worker: Any) -> bool:
        """Only where somebody looks."""
        return Heartbeat(config.load().heartbeat_file).wanted

    def start(self, worker: Any) -> None:
        """Begin."""
        self._heartbeat.begin()
        worker.timer.call_repeatedly(EVERY, self._pulse.turn)
        threading.Thread(target=self._keep, args=(worker,), name="heartbeat", daemon=True).start()

    def _keep(self, worker: Any) -> None:
        while True:
            time.sleep(EVERY)
            if self._pulse.alive(worker):
                self._heartbeat.beat()


class Pulse:
    """Judges whether a worker lives."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._turned = clock()

    def turn(self) -> None:
        """The loop has turned."""
        self._turned = self._clock()

    def alive(self, worker: Any) -> bool:
        """Whether the loop of ``worker`` turns, or has a reason not to."""
        consumer = getattr(worker, "consumer", None)
        waits = consumer is None or consumer.connection is None
        stops = worker.blueprint.state != bootsteps.RUN
        return waits or stops or self._clock() - self._turned < STUCK
