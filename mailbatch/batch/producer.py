"""Calls tasks from a process that is not a worker: a command, ``serve``, a web application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.batch.send_all import NAME

if TYPE_CHECKING:
    from celery import Celery
    from celery.result import AsyncResult

    from mailbatch.bootstrap import Parts
    from mailbatch.domain.run import Trigger


def celery_app(parts: Parts) -> Celery:
    """Return an app that calls tasks for the database of ``parts``; it has no tasks of its own."""
    from mailbatch.batch.app import BatchApp
    from mailbatch.batch.appconfig import load

    app = BatchApp("mailbatch", set_as_current=False, identify=parts.identity)
    app.config_from_object(load())
    return app


def call_send_all(app: Celery, trigger: Trigger) -> AsyncResult:
    """Queue a run of ``send-all``."""
    return app.send_task(NAME, kwargs={"trigger": trigger.value})
