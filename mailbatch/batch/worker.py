"""Additions to a Celery worker: a shorter soft shutdown, checks at its start, a guard for its embedded beat."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from billiard import pool
from celery import bootsteps, signals
from celery.apps.worker import Worker
from celery.platforms import set_pdeathsig
from celery.worker import state

from mailbatch import config
from mailbatch.batch.start import announce, check_database, watch_until_reachable
from mailbatch.batch.stop.board import has_ended
from mailbatch.batch.unknown_tasks import suggest_task

log = logging.getLogger(__name__)

GUARD_INTERVAL = 1.0
"""Seconds between two looks at the embedded beat."""
SOFT_LOOK = 0.05
"""Seconds between two looks, in a soft shutdown, at which tasks still run."""
LAST_RESULT_LOOKS = 20
"""How often a pool child that must end looks, every 0.1 s, whether its last result was read."""

_worker_pid: int | None = None


class BatchWorker(Worker):  # type: ignore[misc]
    """As Celery's worker, but a soft shutdown (a second Ctrl-C) ends as soon as the running tasks have ended."""

    def wait_for_soft_shutdown(self) -> None:
        """Wait until the running tasks have ended, at most ``worker_soft_shutdown_timeout`` seconds.

        Celery sleeps for all that time, because it waits in a signal handler and reads no results there. So the tasks
        post on the stop board that they have ended.
        """
        seconds = self.app.conf.worker_soft_shutdown_timeout
        running = _running()
        if not running or not seconds or self.app.conf.worker_enable_soft_shutdown_on_idle:
            super().wait_for_soft_shutdown()
            return
        log.warning("soft shutdown: %d tasks have %g s to end", len(running), seconds)
        until = time.monotonic() + seconds
        while _running() and time.monotonic() < until:
            time.sleep(SOFT_LOOK)


def _running() -> list[str]:
    return [request.id for request in tuple(state.active_requests) if not has_ended(request.id)]


class StartChecks(bootsteps.Step):  # type: ignore[misc]
    """Refuses to start on a database that is not migrated; logs at once what will not work."""

    requires = {"celery.worker.components:Timer"}  # noqa: RUF012 - Celery's way

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        # Billiard waits 30 s for the last result to be read. A worker that is stopped just after it has handed over a
        # task reads no more results, so a warm shutdown would take 30 s.
        pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = LAST_RESULT_LOOKS
        settings = config.load()
        announce(settings, worker.app.conf)
        if worker.pool_cls.__module__.endswith(".solo"):
            # It is not refused: it is good enough for one run at a time in the foreground, and Celery's checks use it.
            log.warning(
                "the solo pool runs tasks in the process that should listen: no revoke reaches a run that is going on, "
                "and `control shutdown` only its end. Use prefork (the default) or threads"
            )
        if not check_database(settings):
            watch_until_reachable(settings)


class BeatGuard(bootsteps.StartStopStep):  # type: ignore[misc]
    """Restarts the embedded beat when it has died; Celery does not notice that."""

    requires = {"celery.worker.components:Beat", "celery.worker.components:Timer"}  # noqa: RUF012

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        global _worker_pid  # noqa: PLW0603 - the beat is our fork, and compares it with its parent
        _worker_pid = os.getpid()

    def include_if(self, worker: Any) -> bool:
        """Only if the worker has an embedded beat."""
        return worker.beat is not None

    def start(self, worker: Any) -> None:
        """Look every ``GUARD_INTERVAL`` seconds whether the beat lives."""
        worker.timer.call_repeatedly(GUARD_INTERVAL, _guard, (worker,))


def _guard(worker: Any) -> None:
    stopping = state.should_stop is not None or state.should_terminate is not None
    if stopping or worker.blueprint.state != bootsteps.RUN or worker.beat.is_alive():
        return
    from celery.beat import EmbeddedService

    dead = worker.beat
    log.critical("the embedded beat died (exit code %s); starting another", dead.exitcode)
    worker.beat = EmbeddedService(
        worker.app, schedule_filename=worker.schedule_filename, scheduler_cls=worker.scheduler
    )
    # Celery's own step for beat stops it at the end, so that step must hold the new one.
    for step in worker.steps:
        if getattr(step, "obj", None) is dead:
            step.obj = worker.beat
    worker.beat.start()


def _end_with_the_worker(**_: Any) -> None:
    """End the embedded beat with its worker; otherwise the beat of a killed worker would tick for ever."""
    set_pdeathsig("SIGKILL")
    if _worker_pid is not None and os.getppid() != _worker_pid:
        os._exit(1)  # The worker died before the line above.
    log.info("the embedded beat is process %d", os.getpid())


signals.beat_embedded_init.connect(_end_with_the_worker)
signals.task_unknown.connect(suggest_task)
