"""Find the priorities that have pending reservations, by one jump for each on the index of due ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from mailbatch.infrastructure.db.conditions import PENDING
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

_r = mail_reservations.c


class _likely(FunctionElement[Any]):  # noqa: N801 - reads as the SQL that it becomes
    """A condition that SQLite expects to hold for nearly every row.

    Without it SQLite reads every pending row through the index of the states to find their highest priority (11 s with
    a million rows). With it SQLite reads the last entry of the partial index of what is due.
    """

    # SQLAlchemy would write a boolean as "= 1" on SQLite, and then no index fits.
    type = sa.types.NullType()
    inherit_cache = True


@compiles(_likely)
def _plain(element: _likely, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


@compiles(_likely, "sqlite")
def _hint(element: _likely, compiler: SQLCompiler, **kw: Any) -> str:
    return f"likely({compiler.process(element.clauses, **kw)})"


_PENDING = _likely(PENDING)


def highest(below: sa.ColumnElement[int] | None = None) -> sa.Select[Any]:
    """Select the highest priority that has pending reservations, below ``below`` if that is given."""
    top = sa.select(sa.func.max(_r.priority).label("priority")).where(_PENDING)
    return top if below is None else top.where(_r.priority < below)


def levels(name: str, below: sa.ColumnElement[int] | None = None) -> sa.CTE:
    """Return all of them as a CTE with the column ``priority``; its last row is NULL."""
    level = highest(below).cte(name, recursive=True)
    lower = highest(level.c.priority).scalar_subquery()
    return level.union_all(sa.select(lower).where(level.c.priority.is_not(None)))
