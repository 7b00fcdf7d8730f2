"""Finds the workers that would take a call of ``send-all``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailbatch.domain.job_name import SEND_ALL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

REPLY_TIMEOUT = 3.0
"""Seconds after which a worker that has not replied counts as absent."""
EVENT_TIMEOUT = 2.5
"""Seconds within which a living worker sends an event: Celery's heartbeat comes every two."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The names of the workers found: ``consumers`` of the queue of our calls, and ``others``.

    ``silent``: they send events but reply to no inspection (``worker_enable_remote_control`` is off). They count as
    consumers.
    """

    queue: str
    consumers: Sequence[str]
    others: Sequence[str]
    silent: bool = False

    def why_none(self) -> str:
        """Return why no worker would take a call, and what to do, in a line."""
        if self.others:
            return (
                f"{self.others[0]} answers, but no worker takes the queue {self.queue}, into which calls go; "
                f"nothing was queued; start one with `celery -A mailbatch worker -Q {self.queue}`"
            )
        return (
            f"no worker answered within {REPLY_TIMEOUT:g} s, nothing was queued; "
            "start one with `celery -A mailbatch worker`"
        )


def find_workers(app: Celery) -> Workers:
    """Return the workers that reply within ``REPLY_TIMEOUT``, or else those that send an event.

    Returns as soon as one consumer is found. Raises Redis' errors.
    """
    queue = app.amqp.router.route({}, SEND_ALL)["queue"].name
    replies = _replies(app, queue) if app.conf.worker_enable_remote_control else {}
    if not replies:
        return Workers(queue, _senders_of_heartbeats(app), [], silent=True)
    consumers = [name for name, queues in replies.items() if queue in queues]
    return Workers(queue, consumers, [name for name in replies if name not in consumers])


def _replies(app: Celery, queue: str) -> dict[str, set[str]]:
    """Return the queues of the first worker that replies, or of all if that one does not take ``queue``."""
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        replies = _queues_of_workers(app, connection, limit=1)
        if replies and queue not in next(iter(replies.values())):
            replies = _queues_of_workers(app, connection)
    return replies


def _queues_of_workers(app: Celery, connection: Any, limit: int | None = None) -> dict[str, set[str]]:
    broadcast = app.control.broadcast
    replies = broadcast("active_queues", reply=True, timeout=REPLY_TIMEOUT, limit=limit, connection=connection)
    return {
        name: {queue["name"] for queue in queues or ()} for reply in replies or () for name, queues in reply.items()
    }


def _senders_of_heartbeats(app: Celery) -> list[str]:
    """Return the first worker that sends a heartbeat: without remote control a worker replies to nothing else."""
    senders: list[str] = []
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        receiver = app.events.Receiver(connection)

        def note(event: dict[str, Any]) -> None:
            senders.append(event["hostname"])
            receiver.should_stop = True

        receiver.handlers["worker-heartbeat"] = note
        with suppress(TimeoutError):
            receiver.capture(timeout=EVENT_TIMEOUT, wakeup=False)
    return senders
