"""The port ``AuditLog`` in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from support.fake_tables import FakeTables

from mailbatch.domain.errors import StoreError
from mailbatch.domain.rows import ActionPlace, ActionRow, as_dict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass
class FakeAuditLog:
    """The port ``AuditLog`` over ``tables``. It refuses ``refusals`` writes, or all of them if ``broken``."""

    tables: FakeTables = field(default_factory=FakeTables)
    refusals: int = 0
    broken: bool = False

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What was recorded, without ids and times."""
        rows = [as_dict(row) for row in self.tables.actions]
        return [{name: row[name] for name in ("actor", "action", "target", "affected", "outcome")} for row in rows]

    def record(self, actor: str, action: str, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        self._add(actor, action, target, affected, outcome)

    def begin(self, actor: str, action: str, target: Mapping[str, Any]) -> UUID:
        return self._add(actor, action, target, None, "begun")

    def end(self, entry_id: UUID, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        self._check()
        rows = self.tables.actions
        rows[:] = [
            replace(row, target=dict(target), affected=affected, outcome=outcome) if row.id == entry_id else row
            for row in rows
        ]

    def list(self, limit: int, before: ActionPlace | None = None) -> Sequence[ActionRow]:
        rows = sorted(self.tables.actions, key=lambda row: (row.at, row.id), reverse=True)
        return [row for row in rows if before is None or (row.at, row.id) < (before.at, before.id)][:limit]

    def _add(self, actor: str, action: str, target: Mapping[str, Any], affected: int | None, outcome: str) -> UUID:
        self._check()
        own, now = UUID(int=len(self.tables.actions) + 1), self.tables.now
        values = {"actor": actor, "action": action, "target": dict(target), "affected": affected, "outcome": outcome}
        self.tables.actions.append(ActionRow(id=own, at=now, **values))
        return own

    def _check(self) -> None:
        if self.broken:
            raise StoreError("disk full", transient=False)
        if self.refusals:
            self.refusals -= 1
            raise StoreError("database is locked", transient=True)
