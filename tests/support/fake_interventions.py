"""The port ``Interventions`` in memory, over the rows of a ``FakeBacklog``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.act import EVENTS, Act
from mailbatch.domain.change import ChangeResult, Purged
from mailbatch.domain.lifecycle import REQUEUABLE, TABLE, Event, blocked_by_expiry, sources
from mailbatch.domain.reservation import Status

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from support.fake_backlog import FakeBacklog


@dataclass
class FakeInterventions:
    """All finished reservations were finished ``finished_for`` seconds ago. There are no old runs."""

    backlog: FakeBacklog
    finished_for: float = 0.0

    def apply(self, act: Act, ids: Sequence[UUID], states: Collection[Status]) -> list[ChangeResult]:
        results = {own: self._apply(EVENTS[act], own, states) for own in ids}
        return [results[own] for own in ids]

    def purge(self, older_than: float, limit: int, after: Purged | None = None) -> Purged:
        rows = self.backlog.rows
        finished = [own for own, row in rows.items() if row.status in sources(Event.DELETE)]
        old = finished[:limit] if self.finished_for > older_than else []
        for own in old:
            del rows[own]
        return Purged(len(old), (0,) if len(old) == limit else None)

    def purge_runs(self, older_than: float) -> int:
        return 0

    def _apply(self, event: Event, own: UUID, states: Collection[Status]) -> ChangeResult:
        row = self.backlog.rows.get(own)
        if row is None:
            return ChangeResult(own, changed=False, status=None)
        overdue = blocked_by_expiry(event) and row.is_expired(self.backlog.clock.now) and row.status in REQUEUABLE
        if overdue or row.status not in sources(event).intersection(states):
            return ChangeResult(own, changed=False, status=row.status, overdue=overdue)
        if TABLE[event][row.status].deletes:
            return ChangeResult(own, changed=True, status=self.backlog.rows.pop(own).status)
        row.happens(event)
        if row.status is Status.PENDING:
            row.due_at, row.wire_at = max(row.due_at, self.backlog.clock.now), None
        return ChangeResult(own, changed=True, status=row.status)
