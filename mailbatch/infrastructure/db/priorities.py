"""Find the priorities that have pending reservations, by one jump for each on the index of due ones."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mailbatch.infrastructure.db.conditions import PENDING, likely
from mailbatch.infrastructure.db.tables import mail_reservations

_r = mail_reservations.c
_PENDING = likely(PENDING)


def highest(below: sa.ColumnElement[int] | None = None, least: sa.ColumnElement[int] | None = None) -> sa.Select[Any]:
    """Select the highest priority that has pending reservations: below ``below``, and at least ``least``, if given."""
    top = sa.select(sa.func.max(_r.priority).label("priority")).where(_PENDING)
    if below is not None:
        top = top.where(_r.priority < below)
    return top if least is None else top.where(_r.priority >= least)


def levels(name: str, below: sa.ColumnElement[int] | None = None, least: sa.ColumnElement[int] | None = None) -> sa.CTE:
    """Return all of them as a CTE with the column ``priority``; its last row is NULL."""
    level = highest(below, least).cte(name, recursive=True)
    lower = highest(level.c.priority, least).scalar_subquery()
    return level.union_all(sa.select(lower).where(level.c.priority.is_not(None)))
