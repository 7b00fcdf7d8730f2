"""The circuits of relays: the adapter of the port ``Circuits``. A relay without a row is healthy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from mailbatch.domain.circuit import Circuit, CircuitState
from mailbatch.domain.reply_kinds import Concern
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.tables import relay_circuits
from mailbatch.infrastructure.db.types import now, raised, seconds_since, storable, upsert

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection, Engine

_c = relay_circuits.c
_OPEN = CircuitState.OPEN.value
_CONCERNS = frozenset(Concern)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class SqlCircuits:
    """The port ``Circuits`` on PostgreSQL and SQLite."""

    engine: Engine

    def look(self, relay: str) -> Circuit:
        """Read a relay's circuit; see the port."""
        with reading(self.engine) as connection:
            return _read(connection, relay)

    def open(
        self,
        relay: str,
        reason: str,
        seconds: float,
        concern: Concern | None = None,
        suspects: Mapping[UUID, int] | None = None,
    ) -> Circuit:
        """Open it, unless it is open; see the port."""
        values: dict[str, Any] = {
            "state": _OPEN,
            "reason": storable(reason),
            "opened_at": now(),
            "open_until": now(seconds),
            "changed_at": now(),
            "concern": concern.value if concern else None,
            "suspects": {str(mail): probes for mail, probes in suspects.items()} if suspects else None,
        }
        with writing(self.engine) as connection:
            insert = upsert(connection, relay_circuits).values(relay=relay, failures=1, **values)
            still_open = sa.and_(_c.state == _OPEN, _c.open_until > now())
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["relay"],
                    set_={**values, "failures": raised(_c.failures, 1)},
                    where=sa.not_(still_open),
                )
            )
            return _read(connection, relay)

    def half_open(self, relay: str) -> None:
        """Note that a probe is on its way; see the port."""
        self._change(relay, state=CircuitState.HALF_OPEN.value)

    def close(self, relay: str) -> None:
        """Forget its failures; see the port."""
        nothing = {"failures": 0, "reason": None, "opened_at": None, "open_until": None, "concern": None}
        self._change(relay, state=CircuitState.CLOSED.value, **nothing)

    def _change(self, relay: str, **values: Any) -> None:
        with writing(self.engine) as connection:
            connection.execute(sa.update(relay_circuits).where(_c.relay == relay).values(changed_at=now(), **values))


def _read(connection: Connection, relay: str) -> Circuit:
    statement = sa.select(relay_circuits, seconds_since(_c.open_until).label("over")).where(_c.relay == relay)
    row = connection.execute(statement).one_or_none()
    if row is None:
        return Circuit(relay=relay)
    return Circuit(
        relay=relay,
        state=CircuitState(row.state),
        failures=row.failures,
        reason=row.reason,
        opened_at=row.opened_at,
        open_until=row.open_until,
        seconds_left=0.0 if row.over is None else max(0.0, -float(row.over)),
        concern=Concern(row.concern) if row.concern in _CONCERNS else None,
        suspects=_suspects(row.suspects),
    )


def _suspects(stored: Any) -> dict[UUID, int]:
    """Return ids and counts as they were written. Entries that another program wrote are ignored."""
    found = stored.items() if isinstance(stored, dict) else ()
    return {UUID(mail): probes for mail, probes in found if _UUID.fullmatch(mail) and type(probes) is int}
