"""A job inside a Celery task: who may stop it, and who is shown how far it is."""

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
    """Log in one line why a job broke; its task names ``JobExecError`` in ``throws``, so that Celery adds no traceback.

    What broke inside the job, and is worth a traceback, has been logged by the job with one.
    """
    try:
        yield
    except JobExecError as error:
        log.error("%s", error)  # noqa: TRY400 - one line says it all
        raise


@broken_in_a_line()
def run_in_task(task: Task, job: Callable[[Parts], Job], trigger: str) -> dict[str, Any]:
    """Run ``job`` under the revoke and the shutdown of the worker; answer its report as JSON types.

    The outcome comes first: Flower shows the beginning, and SUCCESS of a run that was revoked too. ``job`` is made from
    the parts of this process, after the fork. Raises ``JobExecError`` when the job itself broke, and ``CallRefused``
    when the call is not for this worker.
    """
    request = task.request
    # Asked at once, in the task's own thread: from here on a SIGTERM to this process is a word, not the end.
    stop_reason(request)
    by = _trigger(trigger)
    parts = process_parts()
    ensure_same_database(request, parts.identify)
    try:
        made = job(parts)
        _keep_what_is_loaded()
        report = made(
            by, interrupted=lambda: stop_reason(request), on_progress=lambda counts: _show(task.app, request, counts)
        )
    finally:
        deliver_soon(parts.notifying)
    return {"outcome": report.outcome.value, **report.as_dict()}


@cache
def _keep_what_is_loaded() -> None:
    """Look at the garbage once, and then never again at all that was loaded by now.

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
    """Show the progress in Flower, which takes a state of its own for an end and a result of STARTED for a text.

    From whatever thread: Celery's own ``Task.send_event`` finds the task's id only in the thread that runs it. What
    could not be sent is not tried again, because the next progress follows within a second.
    """
    text = f"{counts.sent} sent, {counts.failed} failed, {counts.deferred} deferred"
    try:
        with app.events.default_dispatcher(hostname=request.hostname) as dispatcher:
            dispatcher.send("task-started", uuid=request.id, retry=False, result=text)
    except Exception as error:  # noqa: BLE001 - a run does not end because nobody can watch it
        log.debug("progress was not shown: %s", error)
