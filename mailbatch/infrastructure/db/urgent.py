"""Whether urgent mail waits that no run has claimed yet: a few entries of the index of due ones."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.infrastructure.db.conditions import PENDING
from mailbatch.infrastructure.db.priorities import levels
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

NEWEST = 20
"""Mails of a priority that are looked at: those that became due last. Mails that wait for a tick stand behind them."""

_r = mail_reservations.c


def has_urgent(connection: Connection, priority: int) -> bool:
    """Return whether a reservation of at least ``priority`` is due that was never claimed, and has not expired."""
    return bool(connection.scalar(urgent_statement(), {"least": priority}))


@cache
def urgent_statement() -> sa.Executable:
    """Return the statement. It probes the index once for each priority from ``least`` on that has pending mails."""
    level = levels("level", least=sa.bindparam("least", type_=sa.BigInteger))
    newest: Any = (
        sa.select(_r.claim_no, _r.expires_at)
        .where(PENDING, _r.priority == level.c.priority, _r.due_at <= now())
        .order_by(_r.due_at.desc(), _r.id.desc())
        .limit(NEWEST)
        .correlate(level)
        .subquery()
    )
    unclaimed = sa.select(sa.literal(1)).where(newest.c.claim_no == 0, _unexpired(newest.c.expires_at))
    return sa.select(sa.exists().select_from(level).where(level.c.priority.is_not(None), unclaimed.exists()))


def _unexpired(expires_at: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return sa.or_(expires_at.is_(None), expires_at > now())
