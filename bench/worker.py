"""Runs mailbatch as its users do: a Celery worker with lanes, called and measured from outside."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from celery import Celery

from bench.bed import Bed, reserve
from bench.watch import Watch
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.redis.client import connect as redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery.result import AsyncResult
    from support.processes import ManagedProcess

WARM_UP = 200
"""Mails for each lane that are sent before the measurement, for imports, caches and prepared statements."""
_PATIENCE = 3600.0


class Wrong(Exception):
    """A run did not do the work to be measured, so its figures mean nothing."""


class Worker:
    """A running worker. ``connections`` is for all lanes together."""

    def __init__(self, process: ManagedProcess, app: Celery, database_url: str, lanes: int) -> None:
        self.process = process
        self._app = app
        self.url = database_url
        self._lanes = lanes

    def call(self) -> AsyncResult:
        """Queue a ``send-all``."""
        return self._app.send_task("send-all", queue="mailbatch")

    def reserve(self, mails: int, *, future: int = 0) -> None:
        """Store ``mails`` due mails."""
        reserve(self.url, mails, future=future)

    def send(self, mails: int, beside: int | None = None) -> tuple[dict[str, Any], Watch, Watch]:
        """Run once; all ``mails`` must be sent.

        Return the run report, the cost of the worker's processes, and of the process ``beside`` (the database).
        """
        with Watch(self.process.pid) as cost, Watch(beside or self.process.pid) as other:
            report = self.call().get(timeout=_PATIENCE)
        if report["sent"] != mails or report["outcome"] != "completed":
            raise Wrong(f"{mails} were to be sent, the run says {report}")
        return report, cost, other

    def lanes_of(self, report: dict[str, Any]) -> int:
        """Return how many lanes have sent mails in that run."""
        r = mail_reservations.c
        engine = connect(self.url)
        with engine.connect() as connection:
            lanes = sa.select(sa.func.count(r.lane.distinct())).where(r.run_id == UUID(report["run_id"]))
            found = connection.scalar(lanes)
        engine.dispose()
        return int(found or 0)

    def warm_up(self) -> None:
        """Let every lane send a few mails."""
        for _ in range(2):
            self.reserve(mails := WARM_UP * self._lanes)
            self.send(mails)


@contextmanager
def worker(
    bed: Bed, database_url: str, smtp_url: str, *, lanes: int = 1, connections: int = 4, **more: object
) -> Iterator[Worker]:
    """Yield a warm worker with one pool process for each lane and an empty backlog. ``more``: settings, in capitals."""
    from support.stack import Stack

    settings = {
        **{name.upper(): value for name, value in bed.settings(database_url).items()},
        "SMTP_URL": smtp_url,
        "LANES": lanes,
        "CONNECTIONS": connections // lanes,
        "LOG_LEVEL": "WARNING",
        **more,
    }
    with Stack(database_url, bed.redis.url, smtp_url, bed.folder / f"worker-{os.urandom(4).hex()}", settings) as stack:
        # The queue may have calls for an earlier worker.
        with redis(bed.redis.url) as client:
            client.flushall()
        process = stack.worker("-c", str(lanes), "--loglevel=INFO")
        one = Worker(process, _caller(stack.env), database_url, lanes)
        one.warm_up()
        yield one


def _caller(env: dict[str, str]) -> Celery:
    """Return an app that can call the tasks of that environment."""
    from mailbatch.batch.appconfig import load

    before = dict(os.environ)
    os.environ.update(env)
    try:
        app = Celery("bench")
        app.config_from_object(load())
    finally:
        os.environ.clear()
        os.environ.update(before)
    return app
