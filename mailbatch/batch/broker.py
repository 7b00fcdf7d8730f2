"""Celery's Redis broker, changed so that junk in a queue is one line in the log and does not end the worker.

Everybody who reaches Redis can push into the queue; the documented way to call a task from any language does that.
Kombu's transport lets the errors of unreadable messages rise to the worker's main loop.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING, Any

import kombu.connection
from celery.app import amqp
from celery.worker import state
from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from mailbatch.batch.messages import problem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

WRONG_TYPE = "WRONGTYPE"
"""The beginning of Redis' error for a key of another type than the command expects."""
WRONG_TYPE_PAUSE = 1.0
"""Seconds between two reads of a queue whose key has another type: Redis replies to each at once."""
_SHOWN = 200
_FIELDS = 3
"""Parts of a binding: routing key, pattern, queue."""


class KeyOfAnotherType(RedisConnectionError):
    """A key of ours has another type. This is a connection error, because after one Celery waits and tries again."""


@contextmanager
def _as_key_of_another_type() -> Iterator[None]:
    try:
        yield
    except ResponseError as error:
        if WRONG_TYPE not in str(error):
            raise
        other = KeyOfAnotherType(f"a key of ours holds another type, delete it: {error}")
        # For the worker's log, where Celery only writes that its connection was lost. Commands print the error itself.
        log.info("%s", other)
        raise other from error


class Client(kombu_redis.PrefixedStrictRedis):
    """As kombu's; raises ``KeyOfAnotherType``."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's."""
        with _as_key_of_another_type():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:  # noqa: FBT001, FBT002 - redis-py's
        """As redis-py's."""
        return Pipeline(  # type: ignore[no-untyped-call]
            self.connection_pool,
            self.response_callbacks,
            transaction,
            shard_hint,
            global_keyprefix=self.global_keyprefix,
        )


class Pipeline(kombu_redis.PrefixedRedisPipeline):
    """As kombu's; raises ``KeyOfAnotherType``."""

    def execute(self, raise_on_error: bool = True) -> Any:  # noqa: FBT001, FBT002 - redis-py's
        """As redis-py's."""
        with _as_key_of_another_type():
            return super().execute(raise_on_error)


class TolerantChannel(kombu_redis.Channel):
    """As kombu's; survives messages that are not JSON, and keys of another type."""

    def _get_client(self) -> Any:
        if not self.global_keyprefix:
            return super()._get_client()  # type: ignore[no-untyped-call]
        return partial(Client, global_keyprefix=self.global_keyprefix)

    def _brpop_read(self, **options: Any) -> Any:
        return _read(super()._brpop_read, **options)

    def _receive_one(self, client: Any) -> Any:
        try:
            return _read(super()._receive_one, client)
        except Empty:
            # Raising would leave the messages behind this one in the client's buffer until another one comes.
            return False

    def get_table(self, exchange: str) -> list[tuple[str, ...]]:
        """Return the bindings of ``exchange``, without malformed ones."""
        try:
            found = super().get_table(exchange)  # type: ignore[no-untyped-call]
        except UnicodeDecodeError as error:
            log.error("the bindings of %s in Redis cannot be read (%s); delete their key", exchange, _summary(error))  # noqa: TRY400
            return []
        return [binding for binding in found if len(binding) == _FIELDS]


def _read(read: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what ``read`` takes from Redis. Raises ``Empty``, and logs one line, if that is unreadable."""
    try:
        return read(*args, **options)
    except (KeyOfAnotherType, ResponseError) as error:
        if WRONG_TYPE not in str(error):
            raise
        log.error("no call comes through, a key of the queue in Redis is of another type; delete it: %s", error)  # noqa: TRY400
        time.sleep(WRONG_TYPE_PAUSE)
        raise Empty from error
    except (RedisError, OSError, Empty):
        raise
    except Exception as error:
        # The message is out of the queue already, and kombu's JSON may raise any error.
        log.error("a message is dropped: it is no JSON (%s)", _summary(error))  # noqa: TRY400
        raise Empty from error


class TolerantTransport(kombu_redis.Transport):
    """As kombu's; drops a message that would end the worker."""

    Channel = TolerantChannel

    def _deliver(self, message: Any, queue: str) -> None:
        if (problem := problem_of(message)) is not None:
            log.error("a message in the queue %s is dropped: %s: %s", queue, problem, _shown(message))
            return
        try:
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]
        except KeyOfAnotherType:
            self._put_back(message, queue)
            raise
        except (RedisError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker goes on
            log.error("a message in the queue %s is dropped: %s: %s", queue, _summary(error), _shown(message))  # noqa: TRY400
            self._forget(message)

    def _put_back(self, message: dict[str, Any], queue: str) -> None:
        """Put ``message`` back as the next one, because kombu could not record that it was received."""
        with self.channels[0].conn_or_acquire() as client:
            client.rpush(queue, json.dumps(message))

    def _forget(self, message: dict[str, Any]) -> None:
        """Acknowledge ``message``, so that the next start does not get it again, and free its place in the worker."""
        tag = message["properties"]["delivery_tag"]
        for channel in self.channels:
            if tag in channel.qos._delivered:  # noqa: SLF001 - there is no other way to ask
                channel.basic_ack(tag)
        task_id = (message.get("headers") or {}).get("id")
        for request in [request for request in state.reserved_requests if request.id == task_id]:
            state.task_ready(request)


class TolerantConnection(kombu.connection.Connection):
    """As kombu's, with the transport above if its URL names Redis."""

    def get_transport_cls(self) -> type:
        """Return the class of the transport."""
        found: type = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return TolerantTransport if found is kombu_redis.Transport else found


class AMQP(amqp.AMQP):  # type: ignore[misc]
    """As Celery's, with the connections above."""

    Connection = TolerantConnection


def _shown(message: Any) -> str:
    """Return the beginning of ``message`` without its body, because a body may hold addresses."""
    shown = {name: value for name, value in message.items() if name != "body"} if isinstance(message, dict) else message
    return ascii(shown)[:_SHOWN]


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]}"
