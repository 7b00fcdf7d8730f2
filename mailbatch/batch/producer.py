"""Calls tasks from a process that is not a worker: a command, ``serve``, a web application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.domain.job_name import SEND_ALL

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from celery.result import AsyncResult

    from mailbatch.domain.database import DatabaseIdentity
    from mailbatch.domain.run import Trigger


def celery_app(identify: Callable[[], DatabaseIdentity | None]) -> Celery:
    """Return an app that calls tasks for the database that ``identify`` names; it has no tasks of its own."""
    from mailbatch.batch.app import BatchApp
    from mailbatch.batch.appconfig import load

    app = BatchApp("mailbatch", set_as_current=False, identify=identify)
    app.config_from_object(load())
    return app


def call_send_all(app: Celery, trigger: Trigger, expires: float | None = None) -> AsyncResult:
    """Queue a run of ``send-all``. ``expires``: seconds after which a call that no worker took is dropped."""
    return app.send_task(SEND_ALL, kwargs={"trigger": trigger.value}, expires=expires)
