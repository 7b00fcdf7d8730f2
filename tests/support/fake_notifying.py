"""The ports of the notifications in memory; the contract tests hold them to what the databases do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from support.fake_tables import FakeTables

from mailbatch.domain.incident import Incident
from mailbatch.infrastructure.db.incidents import FIRM, SAME

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.domain.errors import NotDelivered
    from mailbatch.domain.finding import Finding
    from mailbatch.domain.run_notification import DueReport

_LEASE = timedelta(seconds=60)


@dataclass
class OutboxRow:
    """A report on its way by one channel."""

    report: DueReport
    next_at: datetime | None
    error: str | None = None


@dataclass
class FakeOutbox:
    """The port ``Outbox`` over ``tables``."""

    tables: FakeTables = field(default_factory=FakeTables)

    @property
    def now(self) -> datetime:
        return self.tables.now

    @property
    def rows(self) -> dict[tuple[UUID, str], OutboxRow]:
        return self.tables.run_reports

    def add(self, report: DueReport) -> None:
        self.rows[report.run_id, report.channel] = OutboxRow(report, self.now)

    def take(self, limit: int) -> Sequence[DueReport]:
        due = [row for row in self.rows.values() if row.next_at is not None and row.next_at <= self.now]
        taken = sorted(due, key=lambda row: row.next_at or self.now)[:limit]
        before = [row.report for row in taken]
        for row in taken:
            row.report = replace(row.report, attempts=row.report.attempts + 1)
            row.next_at = self.now + _LEASE
        return before

    def delivered(self, one: DueReport) -> None:
        self._of(one).next_at = None

    def failed(self, one: DueReport, reason: str, retry_in: float | None) -> None:
        row = self._of(one)
        row.next_at, row.error = None if retry_in is None else self.now + timedelta(seconds=retry_in), reason

    def next_in(self) -> float | None:
        waits = [row.next_at for row in self.rows.values() if row.next_at is not None]
        return max(0.0, (min(waits) - self.now).total_seconds()) if waits else None

    def _of(self, one: DueReport) -> OutboxRow:
        return self.rows[one.run_id, one.channel]


@dataclass
class IncidentRow:
    """An incident of one channel."""

    incident: Incident
    next_at: datetime | None
    told: bool = False
    ended_at: datetime | None = None


@dataclass
class FakeIncidents:
    """The port ``Incidents`` over ``tables``."""

    tables: FakeTables = field(default_factory=FakeTables)

    @property
    def now(self) -> datetime:
        return self.tables.now

    @property
    def rows(self) -> dict[tuple[str, str], IncidentRow]:
        return self.tables.incidents

    def note(self, found: Sequence[Finding], channels: Collection[str]) -> None:
        kinds = {finding.name for finding in found}
        for finding in found:
            for channel in channels:
                self._begin(finding, channel)
        for row in self.rows.values():
            if row.ended_at is None and row.incident.kind not in kinds:
                row.ended_at = self.now

    def take(self, channels: Collection[str]) -> Sequence[Incident]:
        due = [
            row
            for row in self.rows.values()
            if row.ended_at is None and not row.told and row.incident.channel in channels
            if row.next_at is not None and row.next_at <= self.now
        ]
        for row in due:
            row.next_at = self.now + max(_LEASE, (self.now - row.incident.since) / 2)
        return [row.incident for row in due]

    def delivered(self, one: Incident) -> None:
        self.rows[one.kind, one.channel].told = True

    def give_up(self, one: Incident) -> None:
        self.rows[one.kind, one.channel].next_at = None

    def _begin(self, finding: Finding, channel: str) -> None:
        since = finding.since or self.now
        known = self.rows.get((finding.name, channel))
        if known is not None and (known.ended_at is None or known.ended_at >= self.now - timedelta(seconds=SAME)):
            known.ended_at = None
            return
        incident = Incident(kind=finding.name, channel=channel, since=since, what=finding.what, advice=finding.advice)
        self.rows[finding.name, channel] = IncidentRow(incident, since + timedelta(seconds=FIRM))


@dataclass
class FakeChannel:
    """The port ``Channel``. ``troubles`` are raised, one for each call, before reports arrive."""

    troubles: list[NotDelivered] = field(default_factory=list)
    arrived: list[str] = field(default_factory=list)

    def __call__(self, report_id: str, report: Mapping[str, Any]) -> None:
        if self.troubles:
            raise self.troubles.pop(0)
        self.arrived.append(report_id)
