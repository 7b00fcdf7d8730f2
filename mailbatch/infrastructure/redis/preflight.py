"""Preflight check of Redis: send the commands of a run, under names of our own that are deleted."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from redis import RedisError

if TYPE_CHECKING:
    import redis

    from mailbatch.infrastructure.redis.keys import Keys

_SHORT = 60_000
"""Milliseconds after which the keys of a check that was killed expire."""
# The commands of the scripts in lock.py and slots.py.
_SCRIPT = """
redis.call('SET', KEYS[1], 'doctor', 'NX', 'PX', ARGV[1])
redis.call('GET', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[1])
local now = redis.call('TIME')[1]
redis.call('ZADD', KEYS[2], now, 'doctor')
redis.call('PEXPIRE', KEYS[2], ARGV[1])
redis.call('PTTL', KEYS[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', 0)
redis.call('ZCARD', KEYS[2])
redis.call('ZSCORE', KEYS[2], 'doctor')
redis.call('ZCOUNT', KEYS[2], '-inf', '+inf')
redis.call('ZREM', KEYS[2], 'doctor')
return 1
"""


def check_commands(client: redis.Redis, keys: Keys) -> None:
    """Take a lock, count connections and show progress as a run does, and undo it. Raises redis-py's errors."""
    name = f"doctor-{uuid4().hex}"
    lock, connections, status = keys.lock(name), keys.connections(name), keys.status(name)
    try:
        client.eval(_SCRIPT, 2, lock, connections, str(_SHORT))
        client.set(status, "{}", px=_SHORT)
        client.get(status)
        client.pttl(lock)
    finally:
        with suppress(RedisError):
            client.delete(lock, connections, status)
    client.delete(status)


def eviction_policy(client: redis.Redis) -> str | None:
    """Return the policy by which Redis drops keys when it is full; None if it drops none, or cannot be asked."""
    try:
        memory = client.info("memory")
    except RedisError:
        return None
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    return None if policy == "noeviction" or not memory.get("maxmemory") else policy
