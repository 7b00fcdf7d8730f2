"""The slots for connections to one relay: who has one open holds a member of a sorted set, scored by when it ends."""

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
"""Seconds for which a Redis that could not be asked is left alone by ``take`` and ``give_back``."""

# By Redis' own clock, for those of the hosts differ. Asking again with the same name is harmless: the first request may
# have arrived although its reply did not. The key lives as long as the member that ends last.
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
    """The port ``Slots`` on one Redis server: at most ``cap`` at once among all that use ``key``.

    ``ttl`` in seconds: what a killed process held is free again after it. A holder that was only frozen for longer has
    its connections still open, so its next renewal counts them again, over the cap if others took the slots meanwhile.

    While Redis cannot be asked, what is held stays held and nothing is granted: a run ends without its lock soon. If
    Redis has never answered this process (``send-all --here --no-lock`` needs none), ``cap`` holds for it alone.
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
        # Redis may count these although we do not: the answer to a question about them was lost.
        self._doubtful: set[str] = set()
        self._answered = False
        self._quiet_until = 0.0

    @property
    def renew_every(self) -> float:
        """Seconds within which ``renew`` is to be called."""
        return self._ttl / 3

    def take(self) -> bool:
        """Ask for one more; never raises."""
        name = uuid4().hex
        granted = self._asked(_TAKE, self._milliseconds, self._cap, name)
        with self._guard:
            if granted is None and self._answered:
                self._doubtful.add(name)
            elif granted or (granted is None and len(self._held) < self._cap):
                self._held.add(name)
            return name in self._held

    def give_back(self) -> None:
        """Give one back; never raises. What Redis could not be told is said at the next renewal, or ends by itself."""
        with self._guard:
            if not self._held:
                return
            name = self._held.pop()
        if self._asked(_GIVE_BACK, name) is None:
            with self._guard:
                self._doubtful.add(name)

    def renew(self) -> None:
        """Prolong what is held, and give back what could not be given back before; never raises."""
        with self._guard:
            held, doubtful, self._doubtful = set(self._held), self._doubtful, set()
        if held:
            self._asked(_RENEW, self._milliseconds, *held, whatever=True)
            with self._guard:
                # What was given back at this very moment may have been counted again.
                doubtful |= held - self._held
        if doubtful and self._asked(_GIVE_BACK, *doubtful, whatever=True) is None:
            with self._guard:
                self._doubtful |= doubtful

    def count(self) -> int | None:
        """Answer how many are taken, by anybody; None if Redis cannot be asked."""
        return self._asked(_COUNT)

    @property
    def _milliseconds(self) -> int:
        return max(1, round(self._ttl * 1000))

    def _asked(self, script: str, *arguments: str | int, whatever: bool = False) -> int | None:
        """Answer what Redis says; None if it cannot be asked, or could not a moment ago unless ``whatever``."""
        if self._now() < self._quiet_until and not whatever:
            return None
        try:
            answer: Any = self._client.eval(script, 1, self._key, *map(str, arguments))
        except RedisError as error:
            if not self._quiet_until:
                _log.warning("cannot count connections in %s at %s: %s", self._key, place_of(self._client), error)
            self._quiet_until = self._now() + QUIET
            return None
        self._answered, self._quiet_until = True, 0.0
        return int(answer)
