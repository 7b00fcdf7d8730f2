"""A Celery app with one task that does nothing: what a task for each mail would cost at the very least."""

from __future__ import annotations

import os

from celery import Celery

QUEUE = "noop"
app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(task_default_queue=QUEUE, task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task(name="noop")
def noop() -> None:
    """Nothing."""
