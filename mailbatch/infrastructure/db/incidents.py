"""The incidents that people are notified of: one row for each kind and channel, so that the table stays small."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.domain.incident import Incident
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.tables import incidents
from mailbatch.infrastructure.db.types import now, seconds_since, storable, upsert

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.engine import Connection, Engine

    from mailbatch.domain.finding import Finding

_i = incidents.c
FIRM = 60.0
"""Seconds that something must have been wrong before people are notified: a server may be restarting."""
SAME = 600.0
"""Seconds. What comes back sooner after its end is the same incident."""
_LEASE = 60.0
"""Seconds after which a delivery is tried again; one attempt takes less."""
_LONGEST_REST = 1800.0
_OPEN = _i.ended_at.is_(None)


@dataclass(frozen=True, slots=True)
class SqlIncidents:
    """The port ``Incidents`` on PostgreSQL and SQLite."""

    engine: Engine

    def note(self, found: Sequence[Finding], channels: Collection[str]) -> None:
        """Begin and end incidents; see the port. If nothing has changed, it reads a few rows and writes nothing."""
        by_kind = {finding.name: finding for finding in found}
        wanted = {(kind, channel) for kind in by_kind for channel in channels}
        with reading(self.engine) as connection:
            known = {(row.kind, row.channel) for row in connection.execute(sa.select(_i.kind, _i.channel).where(_OPEN))}
        over = {(kind, channel) for kind, channel in known if kind not in by_kind}
        if wanted <= known and not over:
            return
        with writing(self.engine) as connection:
            for kind, channel in sorted(wanted - known):
                _begin(connection, by_kind[kind], channel)
            for kind, channel in sorted(over):
                ended = sa.update(incidents).where(_OPEN, _i.kind == kind, _i.channel == channel)
                connection.execute(ended.values(ended_at=now()))

    def take(self, channels: Collection[str]) -> list[Incident]:
        """Take what is to be delivered; see the port. The longer an incident lasts, the rarer it is tried."""
        due = sa.and_(_OPEN, _i.told_at.is_(None), _i.next_at <= now(), _i.channel.in_(sorted(channels)))
        with reading(self.engine) as connection:
            if not connection.scalar(sa.select(sa.exists().where(due))):
                return []
        age = seconds_since(_i.since) / 2
        rest = sa.case((age < _LEASE, _LEASE), (age > _LONGEST_REST, _LONGEST_REST), else_=age)
        named = (_i.kind, _i.channel, _i.since, _i.what, _i.advice)
        statement = sa.update(incidents).where(due).values(next_at=now(rest)).returning(*named)
        with writing(self.engine) as connection:
            return [Incident(**row) for row in connection.execute(statement).mappings()]

    def delivered(self, one: Incident) -> None:
        """Record that the notification has arrived; see the port."""
        with writing(self.engine) as connection:
            connection.execute(_of(one).values(told_at=now(), next_at=None))

    def give_up(self, one: Incident) -> None:
        """Record that its notification is not tried again; see the port."""
        with writing(self.engine) as connection:
            connection.execute(_of(one).values(next_at=None))


def _begin(connection: Connection, finding: Finding, channel: str) -> None:
    """Begin an incident, or go on with the last one if that has only just ended."""
    since = finding.since if finding.since is not None else now()
    row = {
        "kind": finding.name,
        "channel": channel,
        "since": since,
        "what": storable(finding.what),
        "advice": storable(finding.advice),
        "next_at": now(FIRM) if finding.since is None else finding.since + timedelta(seconds=FIRM),
    }
    insert = upsert(connection, incidents).values(row)
    new = _i.ended_at < now(-SAME)
    anew = {name: sa.case((new, insert.excluded[name]), else_=_i[name]) for name in ("since", "next_at")}
    told_at = sa.case((new, None), else_=_i.told_at)
    said = {name: insert.excluded[name] for name in ("what", "advice")}
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["kind", "channel"], set_={**anew, **said, "told_at": told_at, "ended_at": None}
        )
    )


def _of(one: Incident) -> sa.Update:
    return sa.update(incidents).where(_i.kind == one.kind, _i.channel == one.channel, _i.since == one.since)
