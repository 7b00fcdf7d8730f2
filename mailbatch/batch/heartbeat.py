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
"""Seconds between two heartbeats."""
STUCK = 15.0
"""Seconds without a turn of the loop after which it counts as stuck; a call to a frozen Redis ends after five."""


class WorkerHeartbeat(bootsteps.StartStopStep):  # type: ignore[misc]
    """Writes heartbeats from a thread, as long as the main thread's loop turns or has a reason not to.

    It has a reason while the worker waits for its broker (the run in progress needs none, and a restart would end it),
    and while the worker stops (the last mails may take their time).
    """

    requires = {"celery.worker.components:Timer"}  # noqa: RUF012 - Celery's way

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._heartbeat = Heartbeat(config.load().heartbeat_file)
        self._probe = LivenessProbe(time.monotonic)

    def include_if(self, _worker: Any) -> bool:
        """Only if there is a file or a supervisor to write to."""
        return Heartbeat(config.load().heartbeat_file).enabled

    def start(self, worker: Any) -> None:
        """Write the first heartbeat and start the thread."""
        self._heartbeat.begin()
        worker.timer.call_repeatedly(EVERY, self._probe.loop_turned)
        threading.Thread(target=self._repeat, args=(worker,), name="heartbeat", daemon=True).start()

    def _repeat(self, worker: Any) -> None:
        while True:
            time.sleep(EVERY)
            if self._probe.is_alive(worker):
                self._heartbeat.beat()


class LivenessProbe:
    """Decides whether a worker is alive, from the last turn of its loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last_turn = clock()

    def loop_turned(self) -> None:
        """Note that the loop has turned."""
        self._last_turn = self._clock()

    def is_alive(self, worker: Any) -> bool:
        """Return whether the loop of ``worker`` turns, or has a reason not to."""
        consumer = getattr(worker, "consumer", None)
        waits = consumer is None or consumer.connection is None
        stops = worker.blueprint.state != bootsteps.RUN
        return waits or stops or self._clock() - self._last_turn < STUCK
