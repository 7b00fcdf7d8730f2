"""Read what a statement selects as rows of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from mailbatch.domain.rows import Row, names_of
from mailbatch.infrastructure.db.contents import StoredContent
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.db.types import octets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection, Engine

_r = mail_reservations.c
R = TypeVar("R", bound=Row)


_SIZES = {_r.message: sa.case((_r.message.is_not(None), octets(_r.message))).label("message")}
"""Of a column that may have megabytes only the size is selected: who needs the bytes reads them in pieces."""


_HAS = {"has_attachments": _r.attachments, "has_message": _r.message}
_PRESENT = {name: column.is_not(None).label(name) for name, column in _HAS.items()}
"""For lists, which read none of it: the row itself says it."""


def columns_of(kind: type[Row], table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """Return the columns of ``table`` that a row of ``kind`` has; read what they select with ``read_as``."""
    return [_PRESENT[name] if name in _PRESENT else _selected(table.c[name]) for name in names_of(kind)]


def _selected(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    return _SIZES.get(column, column)


def read_as(kind: type[R], engine: Engine, found: Mapping[Any, Any]) -> R:
    """Return a row of what ``columns_of`` selected."""
    if "message" not in names_of(kind):
        return kind.from_row(found)
    size, own = found["message"], _r.id == found["id"]
    # An empty message is not a missing one: a mail that has nothing else cannot be sent because of it.
    message = StoredContent(engine, _r.message, own, size, "message") if size else None if size is None else b""
    return kind.from_row({**found, "message": message})


def all_of(kind: type[R], connection: Connection, statement: sa.Select[Any]) -> list[R]:
    """Return all rows that ``statement`` selects."""
    return [read_as(kind, connection.engine, found) for found in connection.execute(statement).mappings()]


def first_of(kind: type[R], connection: Connection, statement: sa.Select[Any]) -> R | None:
    """Return the first row that ``statement`` selects; None if it selects none."""
    found = connection.execute(statement).mappings().first()
    return None if found is None else read_as(kind, connection.engine, found)
