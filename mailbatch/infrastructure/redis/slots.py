"""Counts the connections to one relay: each is a member of a sorted set, with the time at which it expires as score."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from redis import RedisError

from mailbatch.infrastructure.redis.client import place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

_log = logging.getLogger(__name__)

QUIET = 5.0
"""Seconds for which ``take`` and ``give_back`` send nothing after Redis did not answer."""

# By Redis' own clock, because those of the hosts differ. Sending the same name twice is harmless: the first request may
# have arrived although its reply was lost. The key lives as long as the member that expires last.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function hold(name)
  redis.call('ZADD', KEYS[1], now + ARGV[1], name)
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
end
"""
_TAKE = f"""{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) and not redis.call('ZSCORE', KEYS[1], ARGV[3]) then return 0 end
hold(ARGV[3])
return 1
"""
_RENEW = f"""{_NOW}
for i = 2, #ARGV do hold(ARGV[i]) end
return 1
"""
_GIVE_BACK = """
return redis.call('ZREM', KEYS[1], unpack(ARGV))
"""

_COUNT = f"""{_NOW}
return redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')
"""


class RedisSlots:
    """The port ``Slots`` on one Redis server: at most ``cap`` slots are taken at once by all that use ``key``.

    ``ttl`` in seconds: after it, the slots of a killed process are free again. A process that was only frozen for
    longer still has its connections open, so its next renewal counts them again; then more than ``cap`` may be taken.

    While Redis does not answer, taken slots stay taken and no further one is granted; the run ends soon, because it
    loses its lock. If Redis has never answered this process (``send-all --here --no-lock`` needs no Redis), ``cap``
    holds for this process alone.
    """

    def __init__(
        self, client: redis.Redis, key: str, cap: int, ttl: float, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._key = key
        self._cap = cap
        self._ttl = ttl
        self._now = now
        self._guard = threading.Lock()
        self._held: set[str] = set()
        # Redis may count these although we do not: its reply was lost.
        self._doubtful: set[str] = set()
        self._answered = False
        self._quiet_until = 0.0

    @property
    def renew_every(self) -> float:
        """Seconds within which ``renew`` is to be called."""
        return self._ttl / 3

    def take(self) -> bool:
        """Take one more slot; return whether it was granted. Never raises."""
        name = uuid4().hex
        granted = self._eval(_TAKE, self._milliseconds, self._cap, name)
        with self._guard:
            if granted is None and self._answered:
                self._doubtful.add(name)
            elif granted or (granted is None and len(self._held) < self._cap):
                self._held.add(name)
            return name in self._held

    def give_back(self) -> None:
        """Give one slot back. Never raises: without an answer the next renewal tries again, or the slot expires."""
        with self._guard:
            if not self._held:
                return
            name = self._held.pop()
        if self._eval(_GIVE_BACK, name) is None:
            with self._guard:
                self._doubtful.add(name)

    def renew(self) -> None:
        """Extend the slots that are taken, and give back those that could not be given back before. Never raises."""
        with self._guard:
            held, doubtful, self._doubtful = set(self._held), self._doubtful, set()
        if held:
            self._eval(_RENEW, self._milliseconds, *held, even_if_quiet=True)
            with self._guard:
                # A slot that was given back at this very moment may have been counted again.
                doubtful |= held - self._held
        if doubtful and self._eval(_GIVE_BACK, *doubtful, even_if_quiet=True) is None:
            with self._guard:
                self._doubtful |= doubtful

    def count(self) -> int | None:
        """Return how many slots are taken by all; None if Redis does not answer."""
        return self._eval(_COUNT)

    @property
    def _milliseconds(self) -> int:
        return max(1, round(self._ttl * 1000))

    def _eval(self, script: str, *arguments: str | int, even_if_quiet: bool = False) -> int | None:
        """Return Redis' reply; None if it does not answer, or did not a moment ago unless ``even_if_quiet``."""
        if self._now() < self._quiet_until and not even_if_quiet:
            return None
        try:
            reply: Any = self._client.eval(script, 1, self._key, *map(str, arguments))
        except RedisError as error:
            if not self._quiet_until:
                _log.warning("cannot count connections in %s at %s: %s", self._key, place_of(self._client), error)
            self._quiet_until = self._now() + QUIET
            return None
        self._answered, self._quiet_until = True, 0.0
        return int(reply)
