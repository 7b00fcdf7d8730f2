"""Read what the next runs send, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.rows import ReservationRow
from mailbatch.infrastructure.db.conditions import has_come, has_expired, is_due
from mailbatch.infrastructure.db.counting import count_up_to
from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.priorities import highest
from mailbatch.infrastructure.db.rows import all_of, columns_of
from mailbatch.infrastructure.db.settling import accepted_in
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.db.types import Guid, Timestamp, now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy.engine import Engine

    from mailbatch.domain.claimed import ClaimedMail

_r = mail_reservations.c
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
        # Counted apart, because the index of what is due does not know expiries.
        come = count_up_to(self.cap + 1, has_come(end))
        expired = count_up_to(self.cap + 1, has_come(end), has_expired(end))
        with reading(self.engine) as connection:
            found, late = connection.execute(sa.select(come, expired)).one()
        return max(0, min(found, self.cap) - late), found <= self.cap

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

    def ahead(self, row: ReservationRow, most: int) -> int:
        """Count what is claimed before ``row``: by priority, due time and id; see the port."""
        key = sa.tuple_(sa.literal(row.due_at, _r.due_at.type), sa.literal(row.id, _r.id.type))
        due = is_due(now())
        higher = count_up_to(most, due, _r.priority > row.priority)
        earlier = count_up_to(most, due, _r.priority == row.priority, sa.tuple_(_r.due_at, _r.id) < key)
        with reading(self.engine) as connection:
            return min(most, int(connection.execute(sa.select(higher + earlier)).scalar_one()))

    def _next_priority(self, below: int | None) -> int | None:
        lower = None if below is None else sa.literal(below, sa.BigInteger)
        with reading(self.engine) as connection:
            found: int | None = connection.execute(highest(lower)).scalar_one()
        return found

    def _page(
        self, by: datetime | None, priority: int, after: ReservationRow | None, limit: int
    ) -> list[ReservationRow]:
        due = sa.select(*columns_of(ReservationRow, mail_reservations)).where(is_due(_end(by)), _r.priority == priority)
        if after is not None:
            key = sa.tuple_(sa.literal(after.due_at, Timestamp()), sa.literal(after.id, Guid()))
            due = due.where(sa.tuple_(_r.due_at, _r.id) > key)
        with reading(self.engine) as connection:
            return all_of(ReservationRow, connection, due.order_by(_r.due_at, _r.id).limit(limit))


def _end(by: datetime | None) -> sa.ColumnElement[Any]:
    return now() if by is None else sa.literal(by, Timestamp())
