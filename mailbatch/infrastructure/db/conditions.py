"""The conditions that several statements share: when a reservation is due, expired or under way, when a run is open.

A status is written as a literal and not bound: only then a planner sees that a partial index fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from mailbatch.domain.reservation import Status
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from sqlalchemy.sql.compiler import SQLCompiler

_r, _b = mail_reservations.c, batch_runs.c

CLOCKS_DIFFER = 60.0
"""Seconds by which a time may lie ahead: the clock of a database may be set back."""


def is_in(status: Status) -> sa.ColumnElement[bool]:
    """Whether a reservation is in ``status``."""
    return _r.status == sa.literal_column(f"'{status.value}'")


def has_come(at: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether a pending reservation's time has come ``at`` then. Its ``expires_at`` does not matter here."""
    return sa.and_(PENDING, _r.due_at <= at)


def has_expired(at: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether a reservation's ``expires_at`` has passed ``at`` then."""
    # "IS NOT NULL" lets the index of expiries fit.
    return sa.and_(_r.expires_at.is_not(None), _r.expires_at <= at)


def has_not_expired(at: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether a reservation has no ``expires_at``, or one that lies behind ``at``."""
    return sa.or_(_r.expires_at.is_(None), _r.expires_at > at)


def is_due(at: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether a run sends a reservation ``at`` then: its time has come and has not passed."""
    return sa.and_(has_come(at), has_not_expired(at))


PENDING = is_in(Status.PENDING)
SENDING = is_in(Status.SENDING)
SENT = is_in(Status.SENT)
UNEXPIRED = has_not_expired(now())
OPEN_RUN = _b.outcome.is_(None)
"""A run that has no end: it goes on, or its process died and nobody has closed it yet."""


def time_of(run_id: UUID) -> tuple[sa.ScalarSelect[Any], sa.ScalarSelect[Any]]:
    """Return when a run began and when it ended, at the latest in a moment.

    A run has its own time, because one runs at a time. So what it did is a range of an index by time.
    """
    began = sa.select(_b.started_at).where(_b.run_id == run_id)
    ended = sa.select(sa.func.coalesce(_b.finished_at, now(CLOCKS_DIFFER))).where(_b.run_id == run_id)
    return began.scalar_subquery(), ended.scalar_subquery()


class likely(FunctionElement[Any]):  # noqa: N801 - reads as the SQL that it becomes
    """A condition that SQLite expects to hold for nearly every row; so it prefers an index on another column.

    Without it SQLite reads every pending row through the index of the states to find their highest priority (11 s with
    a million rows), or those that have expired. With it SQLite reads a part of the partial index that fits.
    """

    # SQLAlchemy would write a boolean as "= 1" on SQLite, and then no index fits.
    type = sa.types.NullType()
    inherit_cache = True


@compiles(likely)
def _plain(element: likely, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


@compiles(likely, "sqlite")
def _hint(element: likely, compiler: SQLCompiler, **kw: Any) -> str:
    return f"likely({compiler.process(element.clauses, **kw)})"


def among(ids: Collection[UUID], *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Whether a reservation is one of ``ids`` and meets all ``conditions``.

    No index fits the CASE, so the rows are found by their ids. Otherwise SQLite reads all mails of a state instead of a
    few by their ids: 0.6 s with a million rows, while no run can write.
    """
    return sa.and_(_r.id.in_(ids), sa.case((sa.and_(*conditions), sa.true()), else_=sa.false()))


def read_once(rows: sa.Select[Any]) -> sa.Select[Any]:
    """Return what ``rows``, a page of a table, selects; the database reads the page once.

    A planner that makes a plain subquery part of a nested loop runs it again for each row of the table. Each time it
    locks and returns other rows, so that a statement changes more rows than LIMIT says.
    """
    page = rows.cte("page").prefix_with("MATERIALIZED", dialect="postgresql")
    return sa.select(page)


HELD_BACK = sa.and_(likely(PENDING), _r.waits_for.is_not(None))
"""Whether a gate holds a reservation back, or held it until it came due again: the partial index of these."""
