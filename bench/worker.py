"""mailbatch as its users run it: a Celery worker with lanes, called and watched from outside."""

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
"""Mails for each lane that are sent before anything is measured: imports, caches, prepared statements."""
_PATIENCE = 3600.0


class Wrong(Exception):
    """A run that did not do what was to be measured; its figures would be worth nothing."""


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
        """Store ``mails`` that are due."""
        reserve(self.url, mails, future=future)

    def send(self, mails: int, beside: int | None = None) -> tuple[dict[str, Any], Watch, Watch]:
        """Run once: ``mails`` must all be sent.

        Answer the run report, what the worker's processes cost, and what the process ``beside`` did (the database).
        """
        with Watch(self.process.pid) as cost, Watch(beside or self.process.pid) as other:
            report = self.call().get(timeout=_PATIENCE)
        if report["sent"] != mails or report["outcome"] != "completed":
            raise Wrong(f"{mails} were to be sent, the run says {report}")
        return report, cost, other

    def lanes_of(self, report: dict[str, Any]) -> int:
        """How many lanes have sent something in that run."""
        r = mail_reservations.c
        engine = connect(self.url)
        with engine.connect() as connection:
            lanes = sa.select(sa.func.count(r.lane.distinct())).where(r.run_id == UUID(report["run_id"]))
            found = connection.scalar(lanes)
        engine.dispose()
        return int(found or 0)

    def warm_up(self) -> None:
        """Send a few mails by every lane."""
        for _ in range(2):
            self.reserve(mails := WARM_UP * self._lanes)
            self.send(mails)


@contextmanager
def worker(
    bed: Bed, database_url: str, smtp_url: str, *, lanes: int = 1, connections: int = 4, **more: object
) -> Iterator[Worker]:
    """A warm worker, one pool process for each lane, on an empty backlog; ``more`` settings in capitals."""
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
        # What an earlier worker left in its queue is not this one's.
        with redis(bed.redis.url) as client:
            client.flushall()
        process = stack.worker("-c", str(lanes), "--loglevel=INFO")
        one = Worker(process, _caller(stack.env), database_url, lanes)
        one.warm_up()
        yield one


def _caller(env: dict[str, str]) -> Celery:
    """An app that can call the tasks of that environment."""
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
