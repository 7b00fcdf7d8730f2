"""Read what a statement selects as rows of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from mailbatch.domain.rows import Row, names_of

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection

R = TypeVar("R", bound=Row)


def columns_of(kind: type[Row], table: sa.Table) -> list[sa.Column[Any]]:
    """Return the columns of ``table`` that a row of ``kind`` has."""
    return [table.c[name] for name in names_of(kind)]


def all_of(kind: type[R], connection: Connection, statement: sa.Select[Any]) -> list[R]:
    """Return all rows that ``statement`` selects."""
    return [kind.from_row(found) for found in connection.execute(statement).mappings()]


def first_of(kind: type[R], connection: Connection, statement: sa.Select[Any]) -> R | None:
    """Return the first row that ``statement`` selects; None if it selects none."""
    found = connection.execute(statement).mappings().first()
    return None if found is None else kind.from_row(found)
