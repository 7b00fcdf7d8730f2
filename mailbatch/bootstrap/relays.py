"""Makes the relays of one process: those of the relays' file, or that of SMTP_URL."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from mailbatch.bootstrap.relay_parts import RelayParts
from mailbatch.bootstrap.settings import read_relays
from mailbatch.bootstrap.transports import read_named_relay, read_relay, transports_to_all
from mailbatch.domain.errors import SettingsError
from mailbatch.domain.routes import route_of
from mailbatch.domain.sending_limit import LimitUnit, Per
from mailbatch.domain.traits import envelope_traits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.application.ports.sending import Transport
    from mailbatch.application.sending.gates.sending_limits import SendingLimits
    from mailbatch.application.sending.relay_health.allowance import NewAllowance
    from mailbatch.application.sending.routing.read_traits import ReadTraits
    from mailbatch.application.sending.routing.routed_lane import SeveralRelays
    from mailbatch.bootstrap.connections import Connections
    from mailbatch.bootstrap.transports import Relay
    from mailbatch.config import RelaysFile
    from mailbatch.domain.message import Message
    from mailbatch.infrastructure.redis.rate_limits import RedisRateLimits
    from mailbatch.infrastructure.redis.slots import RedisSlots

RELAY_FAULTS_OF_A_CONNECTION = 4
"""How many relay faults in a row, for each connection of a lane, end the run."""


class Relays:
    """Makes each relay when it is first used."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._settings = connections.settings

    @cached_property
    def relays_file(self) -> RelaysFile:
        """What the relays' file says. Raises ``SettingsError`` if it cannot be read."""
        return read_relays(self._settings)

    @cached_property
    def relays(self) -> tuple[RelayParts, ...]:
        """Every relay: those of the relays' file, or else that of SMTP_URL."""
        s, tables = self._settings, self.relays_file.relays
        if not tables:
            return (RelayParts(self._connections, read_relay(s.smtp_url, s.ehlo_name)),)
        return tuple(
            RelayParts(self._connections, read_named_relay(name, table, s.ehlo_name), table)
            for name, table in tables.items()
        )

    @property
    def _first(self) -> RelayParts:
        return self.relays[0]

    @property
    def relay(self) -> Relay:
        """The relay that takes the mails."""
        return self._first.relay

    @property
    def connections(self) -> int:
        """How many connections a lane begins with, to all relays together."""
        return sum(one.connections for one in self.relays)

    @property
    def group_size(self) -> int:
        """How many mails a lane claims at once: as many as its connections can hold in flight, at most a page."""
        return min(self.connections * self._settings.window, self._settings.page_size)

    @property
    def transport(self) -> Transport:
        """A way to the relay, for one lane."""
        return self._first.new_transport()

    def single_transport(self, relay: str | None = None) -> Transport:
        """Return a way for single mails past the backlog: by the relay of this name, or else by their routes.

        Raises ``SettingsError`` if there is no relay of this name.
        """
        by_name = {one.name: one for one in self.relays}
        if relay is not None and relay not in by_name:
            raise SettingsError(f"there is no relay {relay}; there are: {', '.join(by_name)}")
        if relay is not None or len(by_name) == 1:
            return (by_name[relay] if relay else self._first).new_transport()
        from mailbatch.application.sending.routing.first_that_takes import FirstThatTakes

        def ways(message: Message) -> list[Callable[[], Transport]]:
            names = route_of(self.relays_file.routes, envelope_traits(message.envelope))
            return [by_name[name].new_transport for name in names]

        return FirstThatTakes(ways)

    @property
    def slots(self) -> RedisSlots | None:
        """Counts the connections to the relay of all lanes and hosts; None where they have no limit."""
        return self._first.slots

    def relay_connections(self) -> dict[str, int]:
        """Return the number of connections of all lanes and hosts, by relay; nothing where they are not counted."""
        counts = {one.name: one.slots.count() for one in self.relays if one.slots is not None}
        return {name: count for name, count in counts.items() if count is not None}

    @property
    def _several(self) -> SeveralRelays:
        """The relays of one lane."""
        from mailbatch.application.sending.routing.routed_lane import SeveralRelays
        from mailbatch.application.sending.routing.routed_relay import Way

        return SeveralRelays(
            ways=[
                Way(
                    name=one.name,
                    circuit_breaker=one.circuit_breaker,
                    slots=one.slots,
                    faults=faults_of(one),
                    most=min(one.connections * self._settings.window, self._settings.page_size),
                    allowance=self.allowance_of(one),
                )
                for one in self.relays
            ],
            routes=self.relays_file.routes,
            read_traits=self.read_traits,
            transports=transports_to_all([one.new_transport for one in self.relays]),
        )

    @cached_property
    def read_traits(self) -> ReadTraits:
        """Reads from a mail what the rules of the relays' file look at."""
        from mailbatch.application.sending.routing.read_traits import ReadTraits
        from mailbatch.infrastructure.mime.addresses import read_addresses
        from mailbatch.infrastructure.mime.message_envelope import message_author

        s, file = self._settings, self.relays_file
        matches = [rule.match for rules in (file.routes, file.limits, file.windows) for rule in rules]
        return ReadTraits(
            read_addresses=read_addresses,
            author_of=message_author,
            sender=s.sender,
            redirect_all_to=s.redirect_all_to,
            domains=any(match.sender_domain or match.recipient_domain for match in matches)
            or any(limit.per is Per.DOMAIN or limit.count is LimitUnit.RECIPIENTS for limit in file.limits)
            or any(table.count is LimitUnit.RECIPIENTS for table in file.relays.values()),
        )

    # --- what they may send --------------------------------------------------------------------------------------

    @cached_property
    def rate_limits(self) -> RedisRateLimits:
        """Grants what all lanes and hosts may send."""
        from mailbatch.infrastructure.redis.rate_limits import RedisRateLimits

        return RedisRateLimits(self._connections.redis, self._connections.keys)

    @property
    def limits(self) -> Sequence[SendingLimits]:
        """The gate of the limits of one lane; nothing where there are none."""
        from mailbatch.application.sending.gates.sending_limits import SendingLimits

        limits = self.relays_file.limits
        return [SendingLimits(limits, self.rate_limits, self.read_traits)] if limits else []

    def allowance_of(self, relay: RelayParts) -> NewAllowance | None:
        """Return what makes for each lane what keeps it to the rate of ``relay``; None if it has none."""
        table = self.relays_file.relays.get(relay.name)
        if table is None or not table.rate:
            return None
        from mailbatch.application.sending.relay_health.allowance import Allowance, Allowed

        by_recipients = table.count is LimitUnit.RECIPIENTS
        allowed = Allowed.of(
            relay.name,
            table.rate,
            table.timezone,
            (lambda mail: max(1, sum(self.read_traits(mail).recipients.values()))) if by_recipients else (lambda _: 1),
        )
        return lambda stop, health, is_busy: Allowance(
            allowed=allowed,
            rate_limits=self.rate_limits,
            quotas=self._connections.stores.quotas,
            now=lambda: datetime.now(UTC),
            stop=stop,
            health=health,
            is_busy=is_busy,
        )


def faults_of(relay: RelayParts) -> int:
    """Return how many faults in a row make a relay away."""
    return max(relay.connections * RELAY_FAULTS_OF_A_CONNECTION, 2 * relay.most_connections)
