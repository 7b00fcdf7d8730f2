"""For revisions: change what SQLite cannot change in a table that is there, by making the table anew."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailbatch.domain.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

_HEAD = re.compile(r"""^\s*CREATE\s+TABLE\s+("[^"]+"|\w+)""", re.IGNORECASE)


def rebuild(connection: Connection, table: str, change: Callable[[str], str]) -> None:
    """Make ``table`` anew from its CREATE TABLE as ``change`` returns it; rows, indexes and triggers stay.

    So do columns that somebody added. ``change`` must keep every column. Only within a migration, where foreign keys
    are off. Alembic's own batch mode cannot copy a table with a generated column (``due_at``).

    Raises ``StoreError`` if ``change`` changes nothing: the table is not what the revision takes it for.
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
        if not row.hidden  # else it is generated
    )
    for statement in (
        _HEAD.sub(f'CREATE TABLE "{new}"', after, count=1),
        f'INSERT INTO "{new}" ({columns}) SELECT {columns} FROM "{table}"',  # noqa: S608
        f'DROP TABLE "{table}"',
        f'ALTER TABLE "{new}" RENAME TO "{table}"',
        *beside,
    ):
        connection.exec_driver_sql(statement)
