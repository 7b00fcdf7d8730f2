"""Makes what one process uses of one relay: transports, the count of its connections, its circuit."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from mailbatch.bootstrap.transports import Terms, transports_to
from mailbatch.domain.connection_number import FIRST

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.sending import RelayMemory, Transport
    from mailbatch.application.sending.relay_health.circuit_breaker import CircuitBreaker
    from mailbatch.bootstrap.connections import Connections
    from mailbatch.bootstrap.transports import Relay
    from mailbatch.config.relay_tables import RelayTable
    from mailbatch.infrastructure.redis.slots import RedisSlots

FIRST_REST = 10.0
"""Seconds for which a relay is left alone when it failed for the first time."""
LONGEST_REST = 1800.0
"""Seconds after which a relay is probed again at the latest, where ticks are far apart."""


class RelayParts:
    """``table``: what the relays' file says of the relay; None for that of SMTP_URL."""

    def __init__(self, connections: Connections, relay: Relay, table: RelayTable | None = None) -> None:
        self.relay = relay
        self._connections = connections
        self._settings = connections.settings
        self._table = table

    @property
    def name(self) -> str:
        """Its name, by which circuits, slots and metrics know it."""
        return self.relay.name

    @property
    def connections(self) -> int:
        """How many connections a lane begins with."""
        number = self._number
        return number if isinstance(number, int) else min(FIRST, self._max_connections)

    @property
    def most_connections(self) -> int:
        """How many connections a lane may ever have. It does not grow beyond its share of ``total_connections``."""
        if isinstance(self._number, int):
            return self._number
        total = self.total_connections
        share = total // self._settings.lanes if total else self._max_connections
        return max(self.connections, min(self._max_connections, share))

    @property
    def _number(self) -> int | str:
        table = self._table
        return self._settings.connections if table is None or table.connections is None else table.connections

    @property
    def _max_connections(self) -> int:
        table = self._table
        return self._settings.max_connections if table is None or not table.max_connections else table.max_connections

    @property
    def total_connections(self) -> int:
        """How many connections all lanes and hosts may have to it; 0: no limit."""
        total = self._table.total_connections if self._table is not None else None
        return self._settings.relay_connections if total is None else total

    @cached_property
    def new_transport(self) -> Callable[[], Transport]:
        """What makes a transport to it, for one lane."""
        from mailbatch.application.sending.in_flight import SETTLE_EVERY

        terms = Terms(
            connections=self.connections,
            most_connections=self.most_connections,
            window=self._settings.window,
            settle_every=SETTLE_EVERY,
            slots=self.slots,
            memory=lambda: self._memory,
        )
        return transports_to(self.relay, terms)

    @cached_property
    def _memory(self) -> RelayMemory:
        from mailbatch.infrastructure.redis.relay_memory import RedisRelayMemory

        return RedisRelayMemory(self._connections.redis, self._connections.keys.relay_profile(self.name))

    @cached_property
    def slots(self) -> RedisSlots | None:
        """Counts the connections of all lanes and hosts; None where they have no limit."""
        if not self.total_connections:
            return None
        from mailbatch.infrastructure.redis.slots import RedisSlots

        key = self._connections.keys.connections(self.name)
        return RedisSlots(self._connections.redis, key, self.total_connections, self._settings.lock_ttl)

    @property
    def circuit_breaker(self) -> CircuitBreaker:
        """Leaves the relay alone after it failed."""
        from mailbatch.application.sending.relay_health.circuit_breaker import CircuitBreaker
        from mailbatch.domain.circuit import CircuitPolicy
        from mailbatch.infrastructure.cron import shortest_gap

        s = self._settings
        # Below the interval, so that each tick is a probe at least.
        longest = min(shortest_gap(s.when, datetime.now(UTC)) * 0.9, LONGEST_REST)
        policy = CircuitPolicy(min(FIRST_REST, longest), longest, s.retry_backoff_max)
        circuits = self._connections.stores.circuits
        return CircuitBreaker(circuits=circuits, relay=self.name, policy=policy, jitter=random.random)
