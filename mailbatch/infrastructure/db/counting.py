"""Count up to a bound, so that no screen waits for a table of many millions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations

if TYPE_CHECKING:
    from collections.abc import Sequence

_b = batch_runs.c


def count_up_to(
    most: int, *where: sa.ColumnElement[bool], order_by: Sequence[sa.ColumnElement[Any]] = ()
) -> sa.ScalarSelect[int]:
    """Return an expression that counts up to ``most`` reservations which meet ``where``.

    ``order_by``: the order of an index, so that PostgreSQL uses it and does not read the whole table.
    """
    found: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(mail_reservations).where(*where)
    some = found.order_by(*order_by).limit(most).subquery()
    return sa.select(sa.func.count()).select_from(some).scalar_subquery()


def job_names() -> sa.Select[Any]:
    """Select the jobs that have run: one step of the index for each, however many runs there are."""
    level = sa.select(sa.func.min(_b.job).label("job")).cte("level", recursive=True)
    following = sa.select(sa.func.min(_b.job)).where(_b.job > level.c.job).scalar_subquery()
    level = level.union_all(sa.select(following).where(level.c.job.is_not(None)))
    return sa.select(level.c.job).where(level.c.job.is_not(None))
