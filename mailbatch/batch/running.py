"""Runs a job inside a Celery task: a revoke or a shutdown stops it, and Flower shows its progress."""

from __future__ import annotations

import gc
import logging
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from mailbatch.batch.app import ensure_same_database
from mailbatch.batch.outbox_worker import deliver_soon
from mailbatch.batch.stop.task import stop_reason
from mailbatch.bootstrap import process_parts
from mailbatch.domain.errors import CallRefused, JobExecError
from mailbatch.domain.run import Trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery, Task

    from mailbatch.batch.job import Job
    from mailbatch.bootstrap import Parts
    from mailbatch.domain.run import Counts

log = logging.getLogger(__name__)


@contextmanager
def broken_in_a_line() -> Iterator[None]:
    """Log in one line why a job broke. Its task names ``JobExecError`` in ``throws``, so Celery adds no traceback.

    The job itself has logged the traceback of an error in its work.
    """
    try:
        yield
    except JobExecError as error:
        log.error("%s", error)  # noqa: TRY400 - one line says it all
        raise


@broken_in_a_line()
def run_in_task(task: Task, job: Callable[[Parts], Job], trigger: str) -> dict[str, Any]:
    """Run ``job`` until it ends, is revoked or the worker shuts down; return its report as JSON types.

    The outcome comes first, because Flower shows the beginning of the result, and the state SUCCESS also for a revoked
    run. ``job`` makes the job from the parts of this process, after the fork. Raises ``JobExecError`` if the job itself
    broke, and ``CallRefused`` if the call is not for this worker.
    """
    request = task.request
    # The first call, in the task's own thread, installs the SIGTERM handler: SIGTERM now requests a stop.
    stop_reason(request)
    by = _trigger(trigger)
    parts = process_parts()
    ensure_same_database(request, parts.identify)
    try:
        made = job(parts)
        _freeze_garbage_collector()
        report = made(
            by, interrupted=lambda: stop_reason(request), on_progress=lambda counts: _show(task.app, request, counts)
        )
    finally:
        deliver_soon(parts.notifying)
    return {"outcome": report.outcome.value, **report.as_dict()}


@cache
def _freeze_garbage_collector() -> None:
    """Exclude all that is loaded by now from later garbage collections.

    A full collection of a worker's modules takes 0.1 s, every 8,000 mails: 6 % of the time of a run.
    """
    gc.collect()
    gc.freeze()


def _trigger(name: str) -> Trigger:
    try:
        return Trigger(name)
    except ValueError:
        raise CallRefused(f"trigger must be one of {', '.join(Trigger)}, not {ascii(name)[:80]}") from None


def _show(app: Celery, request: Any, counts: Counts) -> None:
    """Show the progress in Flower, as the result of a STARTED event. Flower would take a custom state for an end.

    Works from any thread; Celery's own ``Task.send_event`` finds the task's id only in the thread that runs the task.
    An event that could not be sent is not retried, because the next one follows within a second.
    """
    text = f"{counts.sent} sent, {counts.failed} failed, {counts.deferred} deferred"
    try:
        with app.events.default_dispatcher(hostname=request.hostname) as dispatcher:
            dispatcher.send("task-started", uuid=request.id, retry=False, result=text)
    except Exception as error:  # noqa: BLE001 - a run goes on although its progress cannot be shown
        log.debug("progress was not shown: %s", error)
