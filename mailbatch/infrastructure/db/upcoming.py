"""What the next run would send: the adapter of the port ``Upcoming``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.rows import ReservationRow
from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.priorities import highest
from mailbatch.infrastructure.db.rows import all_of
from mailbatch.infrastructure.db.settling import accepted_in
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.db.types import Guid, Timestamp, now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy.engine import Engine

    from mailbatch.domain.claimed import ClaimedMail

_r = mail_reservations.c
_PENDING = _r.status == sa.literal_column("'pending'")
_CAP = 100_000
_PAGE = 50
"""Rows that are read at once with their bodies: each may have some megabytes."""


@dataclass(frozen=True, slots=True)
class SqlUpcoming:
    """The port ``Upcoming`` on PostgreSQL and SQLite. ``cap`` bounds the count."""

    engine: Engine
    cap: int = _CAP

    def count(self, by: datetime | None) -> tuple[int, bool]:
        """Count up to the cap; see the port."""
        end = _end(by)
        due = sa.and_(_PENDING, _r.due_at <= end)
        # Apart, for the index of what is due does not know expiries.
        overdue = sa.and_(due, _r.expires_at.is_not(None), _r.expires_at <= end)
        with reading(self.engine) as connection:
            found, late = connection.execute(sa.select(self._counted(due), self._counted(overdue))).one()
        return max(0, min(found, self.cap) - late), found <= self.cap

    def _counted(self, condition: sa.ColumnElement[bool]) -> Any:
        some: sa.Select[Any] = (
            sa.select(sa.literal_column("1")).select_from(mail_reservations).where(condition).limit(self.cap + 1)
        )
        return sa.select(sa.func.count()).select_from(some.subquery()).scalar_subquery()

    def mails(self, by: datetime | None, limit: int) -> Iterator[ClaimedMail]:
        """Read one priority after the other, as a run does: each is a range of the index of what is due."""
        index = 0
        priority = self._next_priority(None)
        while priority is not None and index < limit:
            after: ReservationRow | None = None
            while index < limit and (rows := self._page(by, priority, after, min(_PAGE, limit - index))):
                for row in rows:
                    index += 1
                    yield row.as_claimed(index, accepted_in(row.verdicts))
                after = rows[-1]
            priority = self._next_priority(priority)

    def _next_priority(self, below: int | None) -> int | None:
        lower = None if below is None else sa.literal(below, sa.BigInteger)
        with reading(self.engine) as connection:
            found: int | None = connection.execute(highest(lower)).scalar_one()
        return found

    def _page(
        self, by: datetime | None, priority: int, after: ReservationRow | None, limit: int
    ) -> list[ReservationRow]:
        due = sa.select(mail_reservations).where(_due(by), _r.priority == priority)
        if after is not None:
            key = sa.tuple_(sa.literal(after.due_at, Timestamp()), sa.literal(after.id, Guid()))
            due = due.where(sa.tuple_(_r.due_at, _r.id) > key)
        with reading(self.engine) as connection:
            return all_of(ReservationRow, connection, due.order_by(_r.due_at, _r.id).limit(limit))


def _due(by: datetime | None) -> sa.ColumnElement[bool]:
    end = _end(by)
    return sa.and_(_PENDING, _r.due_at <= end, sa.or_(_r.expires_at.is_(None), _r.expires_at > end))


def _end(by: datetime | None) -> sa.ColumnElement[Any]:
    return now() if by is None else sa.literal(by, Timestamp())
