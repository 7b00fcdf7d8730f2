"""Makes Redis clients that give up in time, and explains the errors of Redis."""

from __future__ import annotations

import re

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mailbatch.domain.errors import SettingsError
from mailbatch.domain.redaction.urls import mask_url, shown_name
from mailbatch.infrastructure.redis.urls import read_redis_url

TIMEOUT = 5.0
"""Seconds that connecting, or a reply, may take: a frozen Redis must not freeze its clients."""
_HEALTH_CHECK = 25
"""Seconds of idleness after which a connection is tested with a PING before it is used."""
_FORMS = "redis://[user:password@]host:6379/0, rediss://…, unix:///path?db=0 or redis+socket:///path?virtual_host=0"


def connect(url: str) -> redis.Redis:
    """Return a client for ``url`` that has not connected yet. Its replies are text; threads and forks may share it.

    ``url`` is what ``read_redis_url`` takes, with any option that redis-py knows. A command whose connection was lost
    is tried once more. A command that took ``TIMEOUT`` is not, because it would take as long again.
    Raises ``SettingsError`` with one line, without the password, if ``url`` cannot be read.
    """
    try:
        client = redis.Redis.from_url(
            read_redis_url(url).for_redis_py(),
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            health_check_interval=_HEALTH_CHECK,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            decode_responses=True,
            # Other programs may write bytes that are no UTF-8 under our keys.
            encoding_errors="backslashreplace",
        )
        # Without this, an option that redis-py does not know would be a TypeError at the first command.
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, redis.RedisError) as error:
        raise SettingsError(f"{mask_url(url)} is no Redis URL ({_reason(error, url)}); write {_FORMS}") from None
    return client


def place_of(client: redis.Redis) -> str:
    """Return where ``client`` connects to, without user and password: the path of a socket, or host and port."""
    options = client.get_connection_kwargs()
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def explain(error: Exception) -> tuple[str, str]:
    """Return in one line what Redis, or its client, reported; and what to do about it, or an empty text."""
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return said, next((advice for text, advice in _ADVICE.items() if text in said), "")


_ADVICE = {
    "OOM": "Redis is full: raise its maxmemory, or remove what fills it (maxmemory-policy must be noeviction)",
    "maxmemory": "Redis is full: raise its maxmemory, or remove what fills it (maxmemory-policy must be noeviction)",
    "read only replica": "this is a replica: MAILBATCH_REDIS_URL must lead to the primary",
    "permissions": "its ACL does not suffice: docs/how-to/deploy.md has one that does (ACL SETUSER)",
    "EXEC without MULTI": "its ACL does not suffice: docs/how-to/deploy.md has one that does (ACL SETUSER)",
    "MISCONF": "Redis cannot save to its disk: see its log, or set stop-writes-on-bgsave-error no",
    "cluster": "a Redis Cluster is not supported: name one server",
    "MOVED": "a Redis Cluster is not supported: name one server",
    "uthentication": "check user and password in MAILBATCH_REDIS_URL",
    "WRONGPASS": "check user and password in MAILBATCH_REDIS_URL",
}
"""Advice by a part of the error: of Redis' own text, or of redis-py's."""


def _reason(error: Exception, url: str) -> str:
    """Return in few words what is wrong with ``url``; never with its password."""
    text = str(error)
    if isinstance(error, TypeError):
        found = re.search(r"unexpected keyword argument '(\w+)'", text)
        return f"there is no option {shown_name(url.partition('?')[2], found[1])}" if found else "an option has no use"
    return text
