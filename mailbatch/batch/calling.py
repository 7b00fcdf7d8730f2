"""Call the tasks from a process that is no worker."""

from __future__ import annotations

from contextlib import suppress
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
SIGN_OF_LIFE = 2.5
"""Seconds within which a worker that lives says so: Celery's heartbeat comes every two."""


def celery_app(parts: Parts) -> Celery:
    """An app that can call the tasks, and has none of its own; it calls for the database of ``parts``."""
    from mailbatch.batch.app import BatchApp
    from mailbatch.batch.appconfig import load

    app = BatchApp("mailbatch", set_as_current=False, identify=parts.identity)
    app.config_from_object(load())
    return app


@dataclass(frozen=True, slots=True)
class Workers:
    """The names of workers that answered: those that take our calls, and others, which take other queues only.

    ``mute``: they live and answer nobody (``worker_enable_remote_control``), so they count as taking our calls.
    """

    queue: str
    taking: Sequence[str]
    others: Sequence[str]
    mute: bool = False

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
    """Who answers within ``ANSWER`` seconds, or shows a sign of life; the first that takes our calls is enough.

    Raises Redis' errors.
    """
    queue = app.amqp.router.route({}, NAME)["queue"].name
    replies = _answering(app, queue) if app.conf.worker_enable_remote_control else {}
    if not replies:
        return Workers(queue, _living(app), [], mute=True)
    taking = [name for name, queues in replies.items() if queue in queues]
    return Workers(queue, taking, [name for name in replies if name not in taking])


def _answering(app: Celery, queue: str) -> dict[str, set[str]]:
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        replies = _queues_of_workers(app, connection, limit=1)
        if replies and queue not in next(iter(replies.values())):
            replies = _queues_of_workers(app, connection)
    return replies


def _queues_of_workers(app: Celery, connection: Any, limit: int | None = None) -> dict[str, set[str]]:
    ask = app.control.broadcast
    replies = ask("active_queues", reply=True, timeout=ANSWER, limit=limit, connection=connection)
    return {
        name: {queue["name"] for queue in queues or ()} for reply in replies or () for name, queues in reply.items()
    }


def _living(app: Celery) -> list[str]:
    """Who says that it lives: a worker without remote control (``worker_enable_remote_control``) answers nobody."""
    heard: list[str] = []
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        receiver = app.events.Receiver(connection)

        def note(said: dict[str, Any]) -> None:
            heard.append(said["hostname"])
            receiver.should_stop = True

        receiver.handlers["worker-heartbeat"] = note
        with suppress(TimeoutError):
            receiver.capture(timeout=SIGN_OF_LIFE, wakeup=False)
    return heard


def call_send_all(app: Celery, trigger: Trigger) -> AsyncResult:
    """Queue a run of ``send-all``."""
    return app.send_task(NAME, kwargs={"trigger": trigger.value})
