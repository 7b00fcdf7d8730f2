"""Read a large value of a row in pieces: the port ``Content`` over one column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.content import PIECE
from mailbatch.domain.errors import CannotCompose
from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.types import part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

AT_ONCE = 16 * PIECE
"""Bytes that one statement reads. SQLite reads the whole value for each."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StoredContent:
    """The ``size`` bytes of ``column`` in the row for which ``where`` is true. ``name``: for errors."""

    engine: Engine
    column: sa.ColumnElement[Any]
    where: sa.ColumnElement[bool]
    size: int
    name: str

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in order; each statement is a transaction of its own.

        Raises ``CannotCompose`` if the row is gone, or its value is not the one that it was; and ``StoreError``.
        """
        for start in range(0, self.size, AT_ONCE):
            found = self._read(start, min(AT_ONCE, self.size - start))
            for begin in range(0, len(found), PIECE):
                yield found[begin : begin + PIECE]

    def _read(self, start: int, count: int) -> bytes:
        statement = sa.select(part(self.column, sa.literal(start + 1), sa.literal(count))).where(self.where)
        with reading(self.engine) as connection:
            found: bytes | None = connection.scalar(statement)
        if found is None or len(found) != count:
            raise CannotCompose([f"{self.name}: was deleted or changed while it was read"])
        return found
