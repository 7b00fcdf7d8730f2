"""The adapter of the port ``AuditLog``: the table ``operator_actions``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from mailbatch.domain.rows import ActionRow
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.rows import all_of
from mailbatch.infrastructure.db.tables import operator_actions
from mailbatch.infrastructure.db.types import storable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Engine

    from mailbatch.domain.rows import ActionPlace

BEGUN = "begun"
"""The outcome of an act whose end is not recorded yet."""

_o = operator_actions.c


@dataclass(frozen=True, slots=True)
class SqlAuditLog:
    """The port ``AuditLog`` on PostgreSQL and SQLite."""

    engine: Engine

    def record(self, actor: str, action: str, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        """Write an act that was done; see the port."""
        self._write(actor, action, target, affected, outcome)

    def begin(self, actor: str, action: str, target: Mapping[str, Any]) -> UUID:
        """Write an act that begins; see the port."""
        return self._write(actor, action, target, None, BEGUN)

    def end(self, entry_id: UUID, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        """Write the end of an act; see the port."""
        values = {"target": _storable(target), "affected": affected, "outcome": storable(outcome)}
        with writing(self.engine) as connection:
            connection.execute(sa.update(operator_actions).where(_o.id == entry_id).values(values))

    def list(self, limit: int, before: ActionPlace | None = None) -> Sequence[ActionRow]:
        """Read the last entries; see the port."""
        statement = sa.select(operator_actions).order_by(_o.at.desc(), _o.id.desc()).limit(limit)
        if before is not None:
            last = sa.literal(before.at, _o.at.type), sa.literal(before.id, _o.id.type)
            statement = statement.where(sa.tuple_(_o.at, _o.id) < sa.tuple_(*last))
        with reading(self.engine) as connection:
            return all_of(ActionRow, connection, statement)

    def _write(self, actor: str, action: str, target: Mapping[str, Any], affected: int | None, outcome: str) -> UUID:
        values = {
            "id": (own := uuid7()),
            "actor": storable(actor),
            "action": action,
            "target": _storable(target),
            "affected": affected,
            "outcome": storable(outcome),
        }
        with writing(self.engine) as connection:
            connection.execute(sa.insert(operator_actions).values(values))
        return own


def _storable(target: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``target`` as JSON that can be stored: a filter or the name of a template may hold any character."""
    return {name: storable(value) if isinstance(value, str) else value for name, value in target.items()}
