"""Try what a worker asks of Celery's broker and result backend, under names of our own, and leave nothing."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer
from redis import RedisError

if TYPE_CHECKING:
    from celery import Celery

WAIT = 2.0
"""Seconds for which a message may be on its way."""
_SHORT = 60
"""Seconds after which a result that a killed rehearsal left is gone."""


class NotDelivered(Exception):
    """Redis took a message and did not give it back."""


def rehearse_broker(app: Celery) -> None:
    """Queue a message and take it, as a task is; broadcast one and hear it, as a control command is.

    Raises the errors of kombu and redis-py, and ``NotDelivered``.
    """
    name = f"doctor-{uuid4().hex}"
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        for kind, what in (("direct", "a message that was queued"), ("fanout", "a broadcast")):
            queue = Queue(f"{name}-{kind}", Exchange(f"{name}-{kind}", kind), f"{name}-{kind}", auto_delete=True)
            if not _travels(connection, queue):
                raise NotDelivered(f"{what} did not arrive within {WAIT:g} s")


def _travels(connection: Any, queue: Queue) -> bool:
    """Whether a message to ``queue`` arrives. It is acknowledged, and the queue deleted."""
    arrived: list[Any] = []

    def take(body: Any, message: Any) -> None:
        message.ack()
        arrived.append(body)

    with connection.channel() as channel:
        bound = queue(channel)
        try:
            with Consumer(channel, [bound], callbacks=[take], accept=["json"]):
                until = time.monotonic() + WAIT
                while not arrived and time.monotonic() < until:
                    # Again, because a broadcast is only heard by who has subscribed, and that begins with a look.
                    to = {"exchange": queue.exchange, "routing_key": queue.routing_key}
                    Producer(channel).publish({}, **to, serializer="json")
                    with suppress(TimeoutError):
                        connection.drain_events(timeout=WAIT / 10)
        finally:
            with suppress(RedisError):
                bound.delete()
    return bool(arrived)


def rehearse_results(app: Celery) -> None:
    """Store a result, as a worker does, and wait for it, as a caller does. Raises redis-py's errors."""
    backend = app.backend
    key = backend.get_key_for_task(f"doctor-{uuid4().hex}")
    with backend.client.pubsub() as waiting:
        waiting.subscribe(key)
        try:
            backend.client.execute_command("SETEX", key, _SHORT, "{}")
            backend.client.publish(key, "{}")
            backend.client.get(key)
        finally:
            with suppress(RedisError):
                backend.client.delete(key)
        # A refused SUBSCRIBE is only heard of when something is read.
        waiting.get_message(timeout=WAIT)
