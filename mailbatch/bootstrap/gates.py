"""Makes the gates that hold mails back whose time has come. A new gate is one line here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.application.ports.gating import Gate
    from mailbatch.application.sending.gates.gates import Gates
    from mailbatch.bootstrap.connections import Connections


def make_gate_list(connections: Connections) -> Sequence[Gate]:
    """Return all gates, the cheapest first. A mail waits for the first that holds it back."""
    from mailbatch.application.sending.gates.blocked_tags import BlockedTags

    return [BlockedTags(connections.stores.blocks, connections.clock)]


def make_gates(connections: Connections) -> Gates:
    """Return the gates of one lane."""
    from mailbatch.application.sending.gates.gates import Gates
    from mailbatch.infrastructure.cron import following

    when = connections.settings.when
    return Gates(
        gates=make_gate_list(connections),
        clock=connections.clock,
        now=lambda: datetime.now(UTC),
        next_tick=lambda now: following(when, now),
    )
