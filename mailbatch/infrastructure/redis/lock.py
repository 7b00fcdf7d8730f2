"""The lock that says who drives a job: a key with the owner's token and a time to live."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from redis import RedisError

from mailbatch.domain.errors import LockUnavailable
from mailbatch.infrastructure.redis.client import place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

_log = logging.getLogger(__name__)

# The second half makes asking again harmless: the first SET may have arrived although its reply did not.
_ACQUIRE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
"""
_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
_NO_KEY = -2
_NO_EXPIRY = -1


def elapsed() -> float:
    """Seconds since the machine was started, its suspended hours included where the system can tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class RedisLock:
    """The port ``Lock`` on one Redis server. ``ttl`` in seconds; the caller renews it every third of that.

    ``held`` asks nobody: it counts from the moment *before* the request that Redis granted, so that it ends before
    the key does. A lock that was lost once stays lost; take a new one for the next run. ``renew`` and ``held`` may be
    called from other threads than ``acquire`` and ``release``.
    """

    def __init__(self, client: redis.Redis, key: str, ttl: float, *, now: Callable[[], float] = elapsed) -> None:
        self._client = client
        self.key = key
        self._ttl = ttl
        self._now = now
        self._guard = threading.Lock()
        self._token: str | None = None
        self._deadline = -math.inf

    def acquire(self) -> bool:
        """Take the lock if it is free. Raises ``LockUnavailable`` when Redis cannot say so."""
        token = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
        asked = self._now()
        try:
            taken = self._run(_ACQUIRE, token, self._milliseconds)
        except RedisError as error:
            raise self._unavailable(error) from error
        if taken:
            with self._guard:
                self._token, self._deadline = token, asked + self._ttl
        return taken

    def renew(self) -> None:
        """Prolong the lock by its time to live.

        If the key is gone or another's, it is lost at once. If Redis cannot be asked, it is still ours until the time
        to live that was granted last has surely passed. Does nothing to a lock that is not held.
        """
        asked = self._now()
        token = self._token
        if token is None or not self.held():
            return
        try:
            renewed = self._run(_RENEW, token, self._milliseconds)
        except RedisError as error:
            _log.warning("cannot renew the lock %s at %s: %s", self.key, place_of(self._client), error)
            return
        with self._guard:
            if self._token != token:
                return
            if renewed and self._now() < self._deadline:
                self._deadline = asked + self._ttl
                return
            self._token = None
        _log.warning("lost the lock %s: %s", self.key, "it was renewed too late" if renewed else "another may have it")

    def held(self) -> bool:
        """Whether the lock is surely still ours. Asks nobody; once it has said no it keeps to it."""
        with self._guard:
            if self._token is not None and self._now() >= self._deadline:
                self._token = None
            return self._token is not None

    def release(self) -> None:
        """Give the lock back if it is still ours; never raises. What cannot be given back ends by itself."""
        with self._guard:
            token, self._token = self._token, None
        if token is None:
            return
        try:
            self._run(_RELEASE, token)
        except RedisError as error:
            _log.warning(
                "cannot release the lock %s at %s, it ends within %g s: %s",
                self.key,
                place_of(self._client),
                self._ttl,
                error,
            )

    def peek(self) -> float | None:
        """Seconds for which anybody still holds this lock, or None if it is free.

        ``math.inf`` for a key that somebody has set by hand, which never ends. Raises ``LockUnavailable``.
        """
        left = int(self._ask(self._client.pttl))
        if left == _NO_KEY:
            return None
        return math.inf if left == _NO_EXPIRY else left / 1000

    def owner(self) -> str | None:
        """Who holds this lock, as ``host:pid``, or None if it is free. Raises ``LockUnavailable``."""
        token = self._ask(self._client.get)
        return str(token).rpartition(":")[0] or "unknown" if token is not None else None

    @property
    def _milliseconds(self) -> int:
        return max(1, round(self._ttl * 1000))

    def _run(self, script: str, *arguments: str | int) -> bool:
        return bool(self._client.eval(script, 1, self.key, *map(str, arguments)))

    def _ask(self, question: Callable[[str], Any]) -> Any:
        try:
            return question(self.key)
        except RedisError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: RedisError) -> LockUnavailable:
        return LockUnavailable(f"Redis at {place_of(self._client)} cannot be asked for {self.key}: {error}")
