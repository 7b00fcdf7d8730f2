"""Grants on Redis what all lanes and hosts may send under a limit, by the server's clock: ``domain.rate`` in Lua."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from redis import RedisError

from mailbatch.domain.rate import IDLE, Grant
from mailbatch.infrastructure.redis.client import place_of
from mailbatch.infrastructure.redis.own_share import OwnShare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis

    from mailbatch.domain.rate import Asked
    from mailbatch.infrastructure.redis.keys import Keys

_log = logging.getLogger(__name__)

QUIET = 5.0
"""Seconds for which nothing is sent after Redis did not answer."""

# ARGV: the number of rates; spacing and burst of each; then what each script takes. Microseconds are written with %.0f,
# because Lua writes a number of more than 14 digits with an exponent.
_STATE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rates = tonumber(ARGV[1])
local spacing, burst, arrival = {}, {}, {}
for i = 1, rates do
  spacing[i], burst[i] = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  arrival[i] = tonumber(redis.call('HGET', KEYS[1], i) or 0)
end
local line = tonumber(redis.call('HGET', KEYS[1], 'line') or 0)
local next = 2 * rates + 2
local function keep()
  local last, slowest = line, 0
  for i = 1, rates do
    redis.call('HSET', KEYS[1], i, string.format('%.0f', arrival[i]))
    last, slowest = math.max(last, arrival[i]), math.max(slowest, spacing[i])
  end
  redis.call('HSET', KEYS[1], 'line', string.format('%.0f', line))
  redis.call('PEXPIRE', KEYS[1], math.ceil((math.max(last - now, 0) + 2 * slowest) / 1000) + 10000)
  return slowest
end
"""
_TAKE = f"""{_STATE}
local waited, queue = tonumber(ARGV[next]), ARGV[next + 1] == '1'
local idle = true
for i = 1, rates do
  if arrival[i] > now - math.max({IDLE}, 2 * spacing[i]) then idle = false end
end
if idle then line = math.min(line, now) end
local slowest = 1
for i = 1, rates do
  arrival[i] = math.max(arrival[i], now)
  if spacing[i] > spacing[slowest] then slowest = i end
end
local function due(i, from, weight) return from + (math.min(weight, burst[i]) - burst[i]) * spacing[i] - now end
local first = next + 2
local count, wait, whole = 0, 0, #ARGV - first + 1
for n = first, #ARGV do
  local weight = tonumber(ARGV[n])
  wait = -math.huge
  for i = 1, rates do wait = math.max(wait, due(i, arrival[i], weight)) end
  if wait > 0 or (count >= waited and line > arrival[slowest]) then break end
  for i = 1, rates do arrival[i] = arrival[i] + weight * spacing[i] end
  count = count + 1
end
local reply = {{count}}
wait = math.max(0, wait)
if count < whole and not queue then reply[2] = wait end
if count < whole and queue then
  line = math.max(line, arrival[slowest])
  for n = first + count, #ARGV do
    local weight = tonumber(ARGV[n])
    reply[#reply + 1] = math.max(wait, due(slowest, line, weight))
    line = line + weight * spacing[slowest]
  end
end
keep()
return reply
"""
_GIVE_BACK = f"""{_STATE}
for i = 1, rates do arrival[i] = arrival[i] - tonumber(ARGV[next]) * spacing[i] end
keep()
return 1
"""


class RedisRateLimits:
    """The port ``RateLimits`` on one Redis server.

    While Redis does not answer, a lane takes no more than the share that it had last. If Redis has never answered this
    process (``send-all --here --no-lock`` needs no Redis), it takes all, and says so once.
    """

    def __init__(self, client: redis.Redis, keys: Keys, *, now: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._keys = keys
        self._take = client.register_script(_TAKE)
        self._give_back = client.register_script(_GIVE_BACK)
        self._now = now
        self._share = OwnShare(now)
        self._quiet_until = 0.0

    def take(self, asked: Sequence[Asked]) -> list[Grant]:
        """Ask Redis for all in one round trip; see the port."""
        replies = self._ask([(self._take, one.limit, _arguments(one)) for one in asked])
        if replies is None:
            return [self._share.grant(one) for one in asked]
        granted = [Grant(int(reply[0]), tuple(map(int, reply[1:]))) for reply in replies]
        for one, its in zip(asked, granted, strict=True):
            self._share.note(one, its)
        return granted

    def give_back(self, given: Sequence[Asked]) -> None:
        """Lower the arrival times; see the port. What does not reach Redis is lost: less is sent than is allowed."""
        self._ask([(self._give_back, one.limit, [*_rates(one), sum(one.weights)]) for one in given])

    def _ask(self, calls: Sequence[tuple[Any, str, Sequence[int]]]) -> list[Any] | None:
        """Return the reply to each call; None if Redis does not answer, or did not a moment ago."""
        if self._now() < self._quiet_until:
            return None
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for script, limit, arguments in calls:
                    script(keys=[self._keys.rate(limit)], args=arguments, client=pipeline)
                replies: list[Any] = pipeline.execute()
        except RedisError as error:
            if not self._quiet_until:
                meanwhile = "at the share that it had" if self._share.is_shared else "at the full rate of each limit"
                _log.warning(
                    "cannot ask %s what the limits allow, so this process goes on %s: %s",
                    place_of(self._client),
                    meanwhile,
                    error,
                )
            self._quiet_until = self._now() + QUIET
            return None
        self._quiet_until = 0.0
        return replies


def _rates(asked: Asked) -> list[int]:
    numbers = [len(asked.rates)]
    for rate in asked.rates:
        numbers += (rate.spacing, rate.burst)
    return numbers


def _arguments(asked: Asked) -> list[int]:
    return [*_rates(asked), asked.waited, int(asked.queue), *asked.weights]
