"""A Celery app with one task that does nothing: the lowest possible cost of one task for each mail."""

from __future__ import annotations

import os

from celery import Celery

QUEUE = "noop"
app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(task_default_queue=QUEUE, task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task(name="noop")
def noop() -> None:
    """Do nothing."""
