"""The port ``Blocks`` in memory. The contract tests hold it to what the databases do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from support.fake_tables import FakeTables

from mailbatch.domain.gate import NEVER
from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import BlockRow

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class FakeBlocks:
    """The port ``Blocks`` over the mails in ``tables``. ``reads`` counts how often the blocked tags were read."""

    tables: FakeTables = field(default_factory=FakeTables)
    rows: dict[str, BlockRow] = field(default_factory=dict)
    lifted: set[str] = field(default_factory=set)
    reads: int = 0

    def blocked(self) -> frozenset[str]:
        self.reads += 1
        return frozenset(self.rows.keys() - self.lifted)

    def all(self) -> Sequence[BlockRow]:
        return [self._counted(self.rows[tag]) for tag in sorted(self.rows.keys() - self.lifted)]

    def block(self, tag: str, by: str, note: str | None) -> bool:
        if tag in self.rows.keys() - self.lifted:
            return False
        self.lifted.discard(tag)
        self.rows[tag] = BlockRow(tag=tag, since=self.tables.now, by=by, note=note, waiting=0)
        return True

    def lift(self, tag: str) -> bool:
        if tag not in self.rows.keys() - self.lifted:
            return False
        self.lifted.add(tag)
        return True

    def reopen(self, limit: int) -> int:
        mine = [row for row in self.tables.held_back() if row.due_at >= NEVER and row.tag in self.lifted][:limit]
        for row in mine:
            again = self.tables.now if row.attempts else None
            due = {"retry_at": again, "due_at": again or row.scheduled_at, "waits_for": None}
            self.tables.reservations[row.id] = replace(row, **due)
        return len(mine)

    def _counted(self, row: BlockRow) -> BlockRow:
        pending = [r for r in self.tables.reservations.values() if r.status is Status.PENDING and r.tag == row.tag]
        return replace(row, waiting=sum(r.waits_for is not None and r.due_at >= NEVER for r in pending))
