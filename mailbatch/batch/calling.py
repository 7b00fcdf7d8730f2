"""Call the tasks from a process that is no worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailbatch.batch.send_all import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@dataclass(frozen=True, slots=True)
class Workers:
    """The names of workers that answered: those that take our calls, and others, which take other queues only."""

    queue: str
    taking: Sequence[str]
    others: Sequence[str]

    def nobody(self) -> str:
        """Why nobody would take a call, and what to do, in a line."""
        if self.others:
            return (
                f"{self.others[0]} answers, but no worker takes the queue {self.queue}, into which calls go; "
                f"nothing was queued; start one with `celery -A mailbatch worker -Q {self.queue}`"
            )
        return (
            f"no worker answered within {ANSWER:g} s, nothing was queued; start one with `celery -A mailbatch worker`"
        )


def workers(app: Celery) -> Workers:
    """Who answers within ``ANSWER`` seconds; the first that takes our calls is enough. Raises Redis' errors."""
    queue = app.amqp.router.route({}, NAME)["queue"].name
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        replies = _queues_of_workers(app, connection, limit=1)
        if replies and queue not in next(iter(replies.values())):
            replies = _queues_of_workers(app, connection)
    taking = [name for name, queues in replies.items() if queue in queues]
    return Workers(queue, taking, [name for name in replies if name not in taking])


def _queues_of_workers(app: Celery, connection: Any, limit: int | None = None) -> dict[str, set[str]]:
    ask = app.control.broadcast
    replies = ask("active_queues", reply=True, timeout=ANSWER, limit=limit, connection=connection)
    return {
        name: {queue["name"] for queue in queues or ()} for reply in replies or () for name, queues in reply.items()
    }


def call_send_all(app: Celery, trigger: Trigger) -> AsyncResult:
    """Queue a run of ``send-all``."""
    return app.send_task(NAME, kwargs={"trigger": trigger.value})
