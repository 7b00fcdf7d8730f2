"""How many mails went through a relay on a day: the adapter of the port ``Quotas``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.tables import relay_quotas
from mailbatch.infrastructure.db.types import upsert

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy.engine import Engine

_q = relay_quotas.c


@dataclass(frozen=True, slots=True)
class SqlQuotas:
    """The port ``Quotas`` on PostgreSQL and SQLite. The rows of days before are removed when a day begins."""

    engine: Engine

    def take(self, relay: str, day: date, most: int, wanted: int) -> int:
        """Lock the row of the day, and add to it; see the port."""
        today = _row(relay, day)
        with writing(self.engine) as connection:
            new = upsert(connection, relay_quotas).values(relay=relay, day=day.isoformat(), used=0)
            if connection.execute(new.on_conflict_do_nothing().returning(_q.day)).first() is not None:
                connection.execute(sa.delete(relay_quotas).where(_q.relay == relay, _q.day < day.isoformat()))
            used: int = connection.scalars(sa.select(_q.used).where(today).with_for_update()).one()
            count = max(0, min(wanted, most - used))
            connection.execute(sa.update(relay_quotas).where(today).values(used=used + count))
        return count

    def give_back(self, relay: str, day: date, count: int) -> None:
        """Take from the row of the day; see the port."""
        less = sa.case((_q.used > count, _q.used - count), else_=0)
        with writing(self.engine) as connection:
            connection.execute(sa.update(relay_quotas).where(_row(relay, day)).values(used=less))

    def used(self, relay: str, day: date) -> int:
        """Read the row of the day; see the port."""
        with reading(self.engine) as connection:
            used: int | None = connection.scalars(sa.select(_q.used).where(_row(relay, day))).one_or_none()
        return used or 0


def _row(relay: str, day: date) -> sa.ColumnElement[bool]:
    return sa.and_(_q.relay == relay, _q.day == day.isoformat())
