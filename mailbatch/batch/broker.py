"""Celery's Redis broker for which junk in a queue is one line in the log, and not the end of the worker.

Anybody who reaches Redis may push into the queue; the documented way to call a task from any language does just that.
Kombu's transport lets whatever it cannot read go up to the worker's main loop.
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
"""What Redis says of a key that holds something else than a command expects."""
WRONG_TYPE_PAUSE = 1.0
"""Seconds to wait before a queue whose key holds another type is asked again: the answer comes at once each time."""
_SHOWN = 200
_FIELDS = 3
"""Parts of a binding: routing key, pattern, queue."""


class KeyOfAnotherType(RedisConnectionError):
    """A key of ours holds another type. A connection error, because with those Celery waits and tries again."""


@contextmanager
def _waiting_for_its_end() -> Iterator[None]:
    try:
        yield
    except ResponseError as error:
        if WRONG_TYPE not in str(error):
            raise
        other = KeyOfAnotherType(f"a key of ours holds another type, delete it: {error}")
        # For the worker's log: Celery says there only that its connection was lost. Commands print the error itself.
        log.info("%s", other)
        raise other from error


class Client(kombu_redis.PrefixedStrictRedis):
    """Kombu's, which says ``KeyOfAnotherType``."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's."""
        with _waiting_for_its_end():
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
    """Kombu's, which says ``KeyOfAnotherType``."""

    def execute(self, raise_on_error: bool = True) -> Any:  # noqa: FBT001, FBT002 - redis-py's
        """As redis-py's."""
        with _waiting_for_its_end():
            return super().execute(raise_on_error)


class Channel(kombu_redis.Channel):
    """Kombu's, which also survives what is no JSON, and keys that hold something else."""

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
            # It would leave what was received behind this one in the client's buffer, until the next message comes.
            return False

    def get_table(self, exchange: str) -> list[tuple[str, ...]]:
        """The bindings of ``exchange``, without those that are none."""
        try:
            found = super().get_table(exchange)  # type: ignore[no-untyped-call]
        except UnicodeDecodeError as error:
            log.error("the bindings of %s in Redis cannot be read (%s); delete their key", exchange, _told(error))  # noqa: TRY400
            return []
        return [binding for binding in found if len(binding) == _FIELDS]


def _read(read: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What ``read`` takes from Redis; ``Empty``, and one line in the log, if nobody can read that."""
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
        # It is out of the queue, and what kombu's JSON raises is not bounded.
        log.error("a message is dropped: it is no JSON (%s)", _told(error))  # noqa: TRY400
        raise Empty from error


class Transport(kombu_redis.Transport):
    """Kombu's, which drops a message that would break whoever receives it."""

    Channel = Channel

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
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker lives on
            log.error("a message in the queue %s is dropped: %s: %s", queue, _told(error), _shown(message))  # noqa: TRY400
            self._forget(message)

    def _put_back(self, message: dict[str, Any], queue: str) -> None:
        """Queue ``message`` once more, as the next: kombu could not note that it was received."""
        with self.channels[0].conn_or_acquire() as client:
            client.rpush(queue, json.dumps(message))

    def _forget(self, message: dict[str, Any]) -> None:
        """Acknowledge ``message``, or it would come again at the next start; and free its place in the worker."""
        tag = message["properties"]["delivery_tag"]
        for channel in self.channels:
            if tag in channel.qos._delivered:  # noqa: SLF001 - there is no other way to ask
                channel.basic_ack(tag)
        task_id = (message.get("headers") or {}).get("id")
        for request in [request for request in state.reserved_requests if request.id == task_id]:
            state.task_ready(request)


class Connection(kombu.connection.Connection):
    """Kombu's, with the transport above where its URL names Redis."""

    def get_transport_cls(self) -> type:
        """The class of the transport."""
        found: type = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return Transport if found is kombu_redis.Transport else found


class AMQP(amqp.AMQP):  # type: ignore[misc]
    """Celery's way to its broker, by the connections above."""

    Connection = Connection


def _shown(message: Any) -> str:
    """The beginning of ``message``, without its body: what is pushed by mistake may hold addresses."""
    shown = {name: value for name, value in message.items() if name != "body"} if isinstance(message, dict) else message
    return ascii(shown)[:_SHOWN]


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]}"
