"""The lock of a job: a key that holds the owner's token and its database, and expires."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from redis import RedisError

from mailbatch.domain.database import read_identity
from mailbatch.domain.errors import LockUnavailable
from mailbatch.domain.lock import Holder
from mailbatch.infrastructure.redis.client import place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from mailbatch.domain.database import DatabaseIdentity

_log = logging.getLogger(__name__)

# Returns the value that holds the lock from now on, ours or another's. Sending it twice is harmless: the first SET may
# have arrived although its reply was lost.
_ACQUIRE = """
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return redis.call('GET', KEYS[1])
"""
_LOOK = """
return {redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[1])}
"""
_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
ADVICE = "give each installation in this Redis a MAILBATCH_NAMESPACE of its own"
_NO_KEY = -2
_NO_EXPIRY = -1


elapsed = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Return the seconds since the machine was started; time while it was suspended counts if the system can tell."""


class RedisLock:
    """The ports ``Lock`` and ``LockObserver`` on one Redis server.

    ``ttl`` is in seconds; the caller renews the lock every third of that. ``database`` returns the identity of the
    database that the job works on, or None if the database cannot be asked now. It is written into the lock, so that a
    job on another database can be recognized.

    ``held`` sends no request. It counts from the moment *before* the request that Redis granted, so that it ends
    before the key expires. A lost lock stays lost: make a new one for the next run. ``renew`` and ``held`` may be
    called from other threads than ``acquire`` and ``release``.
    """

    def __init__(
        self,
        client: redis.Redis,
        key: str,
        ttl: float,
        *,
        database: Callable[[], DatabaseIdentity | None] = lambda: None,
        now: Callable[[], float] = elapsed,
    ) -> None:
        self._client = client
        self.key = key
        self._ttl = ttl
        self._database = database
        self._now = now
        self._guard = threading.Lock()
        self._token: str | None = None
        self._deadline = -math.inf

    def acquire(self) -> bool:
        """Take the lock if it is free.

        Raises ``LockUnavailable`` if Redis does not answer, and if a job on another database holds the lock.
        """
        ours = self._database()
        token = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
        token = f"{token} {ours.encode()}" if ours else token
        asked = self._now()
        holder = str(self._eval(_ACQUIRE, token, self._milliseconds))
        if holder == token:
            with self._guard:
                self._token, self._deadline = token, asked + self._ttl
            return True
        owner, theirs = _read(holder)
        if ours and theirs and ours.is_other_than(theirs):
            raise LockUnavailable(
                f"the lock {self.key} in Redis at {place_of(self._client)} is held by {owner} for another database: "
                f"{theirs}; this one is {ours}; {ADVICE}"
            )
        return False

    def renew(self) -> None:
        """Extend the lock by its time to live. Does nothing if the lock is not held.

        If the key is gone, or another's, the lock is lost at once. If Redis does not answer, the lock is still held
        until the time to live that Redis granted last has surely passed.
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
            self._lose()
        _log.warning("lost the lock %s: %s", self.key, "it was renewed too late" if renewed else "another may have it")

    def held(self) -> bool:
        """Return whether the lock is surely still ours. Sends no request. Once False, it stays False."""
        now = self._now()
        if now < self._deadline:  # nearly always, and it is asked before each mail
            return True
        with self._guard:
            if self._token is not None and now >= self._deadline:
                self._lose()
            return self._token is not None

    def release(self) -> None:
        """Give the lock back if it is still ours. Never raises: a lock that cannot be given back expires."""
        with self._guard:
            token = self._token
            self._lose()
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
        """Return the seconds for which a job on our database still holds this lock, or None if none holds it.

        Raises ``LockUnavailable``.
        """
        holder = self.holder()
        return holder.expires_in if holder is not None and holder.other_database is None else None

    def holder(self) -> Holder | None:
        """Return the holder of this lock, or None if it is free. Raises ``LockUnavailable``."""
        left, value = self._eval(_LOOK)
        if left == _NO_KEY:
            return None
        owner, theirs = _read(str(value))
        ours = self._database() if theirs else None
        other = bool(ours and theirs and ours.is_other_than(theirs))
        return Holder(
            owner=owner,
            expires_in=math.inf if left == _NO_EXPIRY else left / 1000,
            other_database=str(theirs) if other else None,
        )

    def _lose(self) -> None:
        self._token, self._deadline = None, -math.inf

    @property
    def _milliseconds(self) -> int:
        return max(1, round(self._ttl * 1000))

    def _run(self, script: str, *arguments: str | int) -> bool:
        return bool(self._client.eval(script, 1, self.key, *map(str, arguments)))

    def _eval(self, script: str, *arguments: str | int) -> Any:
        try:
            return self._client.eval(script, 1, self.key, *map(str, arguments))
        except RedisError as error:
            raise LockUnavailable(self._explained(error)) from error

    def _explained(self, error: RedisError) -> str:
        if "WRONGTYPE" in str(error):
            return f"the key {self.key} in Redis at {place_of(self._client)} holds no lock but another type; delete it"
        return f"Redis at {place_of(self._client)} cannot be asked for {self.key}: {str(error).rstrip('.')}"


def _read(value: str) -> tuple[str, DatabaseIdentity | None]:
    """Return the owner, as ``host:pid``, and its database: None if an older version wrote the lock."""
    token, _, database = value.partition(" ")
    return token.rpartition(":")[0] or "unknown", read_identity(database)
