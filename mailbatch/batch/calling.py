"""Call the tasks from a process that is no worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.batch.send_all import NAME

if TYPE_CHECKING:
    from celery import Celery
    from celery.result import AsyncResult

    from mailbatch.bootstrap import Parts
    from mailbatch.domain.run import Trigger

ANSWER = 3.0
"""Seconds for which a worker may be silent before it counts as absent."""


def celery_app(parts: Parts) -> Celery:
    """An app that can call the tasks, and has none of its own; it calls for the database of ``parts``."""
    from mailbatch.batch.app import BatchApp
    from mailbatch.batch.appconfig import load

    app = BatchApp("mailbatch", set_as_current=False, identify=parts.identity)
    app.config_from_object(load())
    return app


def workers(app: Celery) -> list[str]:
    """The name of the first worker that answers within ``ANSWER`` seconds, if any does. Raises Redis' errors."""
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        replies = app.control.broadcast("ping", reply=True, timeout=ANSWER, limit=1, connection=connection)
    return [name for reply in replies or () for name in reply]


def call_send_all(app: Celery, trigger: Trigger) -> AsyncResult:
    """Queue a run of ``send-all``."""
    return app.send_task(NAME, kwargs={"trigger": trigger.value})
