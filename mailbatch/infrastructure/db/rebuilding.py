"""Rebuilds a table of SQLite for a revision, because SQLite's ALTER TABLE cannot change every part of a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailbatch.domain.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

_HEAD = re.compile(r"""^\s*CREATE\s+TABLE\s+("[^"]+"|\w+)""", re.IGNORECASE)


def rebuild(connection: Connection, table: str, change: Callable[[str], str]) -> None:
    """Create ``table`` again by the CREATE TABLE that ``change`` returns for the present one, and copy its rows.

    Its indexes and triggers are kept, and so are columns that an operator added: ``change`` must keep every column. Use
    it only in a migration, where foreign keys are off. Alembic's batch mode cannot copy a table with a generated column
    (``due_at``).

    Raises ``StoreError`` if ``change`` changes nothing, because then the table is not as the revision expects it.
    """

    def said(kinds: str) -> list[str]:
        question = f"SELECT sql FROM sqlite_master WHERE tbl_name = ? AND type IN ({kinds}) AND sql IS NOT NULL"  # noqa: S608
        return list(connection.exec_driver_sql(question, (table,)).scalars())

    [before], beside = said("'table'"), said("'index', 'trigger'")
    after = change(before)
    if after == before:
        raise StoreError(f"the table {table} is not as this revision expects it: {before}", transient=False)
    new = f"mailbatch_new_{table}"
    columns = ", ".join(
        f'"{row.name}"'
        for row in connection.exec_driver_sql(f"PRAGMA table_xinfo({table})")
        if not row.hidden  # a hidden column is a generated one
    )
    for statement in (
        _HEAD.sub(f'CREATE TABLE "{new}"', after, count=1),
        f'INSERT INTO "{new}" ({columns}) SELECT {columns} FROM "{table}"',  # noqa: S608
        f'DROP TABLE "{table}"',
        f'ALTER TABLE "{new}" RENAME TO "{table}"',
        *beside,
    ):
        connection.exec_driver_sql(statement)
