"""The port ``AuditLog`` in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from mailbatch.domain.errors import StoreError
from mailbatch.domain.rows import ActionPlace, ActionRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class FakeAuditLog:
    """The port ``AuditLog``. It refuses ``refusals`` writes, or all of them if ``broken``."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    refusals: int = 0
    broken: bool = False

    def record(self, actor: str, action: str, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        self._check()
        self.entries.append(
            {"actor": actor, "action": action, "target": dict(target), "affected": affected, "outcome": outcome}
        )

    def begin(self, actor: str, action: str, target: Mapping[str, Any]) -> UUID:
        self.record(actor, action, target, None, "begun")
        return UUID(int=len(self.entries))

    def end(self, entry_id: UUID, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        self._check()
        self.entries[entry_id.int - 1] |= {"target": dict(target), "affected": affected, "outcome": outcome}

    def list(self, limit: int, before: ActionPlace | None = None) -> Sequence[ActionRow]:
        rows = [
            ActionRow(id=UUID(int=number), at=START + timedelta(seconds=number), **entry)
            for number, entry in enumerate(self.entries, 1)
        ]
        return [row for row in reversed(rows) if before is None or (row.at, row.id) < (before.at, before.id)][:limit]

    def _check(self) -> None:
        if self.broken:
            raise StoreError("disk full", transient=False)
        if self.refusals:
            self.refusals -= 1
            raise StoreError("database is locked", transient=True)
