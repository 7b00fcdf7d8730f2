"""Makes the gates that hold mails back whose time has come. A new gate is one line here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.application.ports.gating import Gate
    from mailbatch.application.sending.gates.gates import Gates
    from mailbatch.bootstrap.connections import Connections
    from mailbatch.bootstrap.relays import Relays


def make_gate_list(connections: Connections, relays: Relays) -> Sequence[Gate]:
    """Return all gates, the cheapest first. A mail waits for the first that holds it back."""
    from mailbatch.application.sending.gates.blocked_tags import BlockedTags
    from mailbatch.application.sending.gates.hours import SendingHours

    gates: list[Gate] = [BlockedTags(connections.stores.blocks, connections.clock)]
    if windows := relays.relays_file.windows:
        gates.append(SendingHours(windows, relays.read_traits))
    return gates


def make_gates(connections: Connections, relays: Relays) -> Gates:
    """Return the gates of one lane: all of them, and the limits, which nobody else may ask because they count."""
    from mailbatch.application.sending.gates.gates import Gates
    from mailbatch.infrastructure.cron import following

    when = connections.settings.when
    return Gates(
        gates=[*make_gate_list(connections, relays), *relays.limits],
        clock=connections.clock,
        now=lambda: datetime.now(UTC),
        next_tick=lambda now: following(when, now),
    )
