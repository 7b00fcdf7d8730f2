"""How each relay stands: whether it gets mails, since when it gets none and why, and how many connections it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mailbatch.application.ports.sending import Circuits
    from mailbatch.domain.circuit import Circuit


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayStanding:
    """``connections``: those of all lanes and hosts; None if they are not counted. ``total``: how many there may be."""

    circuit: Circuit
    connections: int | None
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowRelays:
    """``totals``: for each relay the limit of its connections, 0 for none. ``count`` counts them by relay."""

    circuits: Circuits
    totals: Mapping[str, int]
    count: Callable[[], Mapping[str, int]]

    def __call__(self) -> Sequence[RelayStanding]:
        """Return how each relay stands, in the order of the relays' file. Raises ``StoreError``."""
        counts = self.count()
        return [
            RelayStanding(circuit=self.circuits.look(name), connections=counts.get(name), total=total)
            for name, total in self.totals.items()
        ]
