"""Redis clients that give up in time."""

from __future__ import annotations

import re

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mailbatch.domain.errors import SettingsError
from mailbatch.domain.redaction.urls import mask_url, shown_name
from mailbatch.infrastructure.redis.urls import read_redis_url

TIMEOUT = 5.0
"""Seconds that a connect or a reply may take: a frozen Redis must not freeze its clients."""
_HEALTH_CHECK = 25
"""Seconds after which an idle connection is tried with a PING before it is used."""
_FORMS = "redis://[user:password@]host:6379/0, rediss://…, unix:///path?db=0 or redis+socket:///path?virtual_host=0"


def connect(url: str) -> redis.Redis:
    """A client for ``url`` that has not connected yet; it answers text, and is safe in threads and after a fork.

    Takes what redis-py takes (``redis://``, ``rediss://``, ``unix://``), and ``redis+socket://`` as Celery writes it.
    A connection that was lost is tried once more; what took ``TIMEOUT`` is not, for it would take it again.
    Raises ``SettingsError``, with one line that holds no password, if ``url`` is none of these.
    """
    try:
        client = redis.Redis.from_url(
            read_redis_url(url).for_redis_py(),
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            health_check_interval=_HEALTH_CHECK,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            decode_responses=True,
            # Anybody may write bytes that are no UTF-8 under a key of ours.
            encoding_errors="backslashreplace",
        )
        # An option that redis-py does not know is else found at the first command, and as a TypeError.
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, redis.RedisError) as error:
        raise SettingsError(f"{mask_url(url)} is no Redis URL ({_reason(error, url)}); write {_FORMS}") from None
    return client


def place_of(client: redis.Redis) -> str:
    """Where ``client`` connects to, without user or password: a socket's path, or host and port."""
    options = client.get_connection_kwargs()
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def explain(error: Exception) -> tuple[str, str]:
    """What Redis, or who speaks with it, said, in one line; and what to do, if that is known."""
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
"""By what Redis says, and by what redis-py makes of it."""


def _reason(error: Exception, url: str) -> str:
    """Return in few words what is wrong with ``url``; never with its password."""
    text = str(error)
    if isinstance(error, TypeError):
        found = re.search(r"unexpected keyword argument '(\w+)'", text)
        return f"there is no option {shown_name(url.partition('?')[2], found[1])}" if found else "an option has no use"
    return text
