"""Preflight checks of Celery's broker and result backend: use them as a worker does, and leave nothing behind."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer
from redis import RedisError

if TYPE_CHECKING:
    from celery import Celery

WAIT = 2.0
"""Seconds within which a message must arrive."""
_SHORT = 60
"""Seconds after which the result of a check that was killed expires."""


class MessageLost(Exception):
    """Redis took a message and did not give it back."""


def check_broker(app: Celery) -> None:
    """Queue a message and take it, subscribe to control commands and events, and broadcast.

    Raises the errors of kombu and redis-py, and ``MessageLost``.
    """
    name = f"doctor-{uuid4().hex}"
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        with connection.channel() as channel:
            _queue_and_take(connection, channel, Queue(name, Exchange(name), name, auto_delete=True))
        with connection.channel() as channel:
            _broadcast(app, channel, name)


def _queue_and_take(connection: Any, channel: Any, queue: Queue) -> None:
    arrived: list[Any] = []

    def take(body: Any, message: Any) -> None:
        message.ack()
        arrived.append(body)

    bound = queue(channel)
    try:
        with Consumer(channel, [bound], callbacks=[take], accept=["json"]):
            Producer(channel).publish({}, exchange=queue.exchange, routing_key=queue.routing_key, serializer="json")
            with suppress(TimeoutError):
                connection.drain_events(timeout=WAIT)
    finally:
        with suppress(RedisError):
            bound.delete()
    if not arrived:
        raise MessageLost(f"a message that was queued did not arrive within {WAIT:g} s")


def _broadcast(app: Celery, channel: Any, name: str) -> None:
    """Subscribe with the patterns of a worker: an ACL of Redis must allow each exactly as it is written."""
    prefix = channel.keyprefix_fanout
    patterns = [f"{prefix}{app.control.mailbox.exchange.name}", f"{prefix}{app.conf.event_exchange}/worker.*"]
    with channel.client.pubsub() as waiting:
        waiting.psubscribe(*patterns)
        channel.client.publish(f"{prefix}{name}", "{}")
        # Redis' refusal arrives only when something is read.
        for _ in patterns:
            waiting.get_message(timeout=WAIT)


def check_result_backend(app: Celery) -> None:
    """Store a result, as a worker does, and read it, as a caller does. Raises redis-py's errors."""
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
        # As above: a refusal of the subscription arrives now.
        waiting.get_message(timeout=WAIT)
