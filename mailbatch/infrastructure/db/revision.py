"""Reads the revision of a database, without Alembic: every process reads it, and few have anything to migrate."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.domain.errors import NotMigrated
from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.location import place, schema_of
from mailbatch.infrastructure.db.tables import VERSION_TABLE

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

_NAME = len("mailbatch_0000")
"""Characters of a revision's name: the name of its file begins with it."""

version_table = sa.Table(VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32)))


def is_current(engine: Engine) -> bool:
    """Return whether the schema is the one that this version works with; if not, ``migrate`` says what to run."""
    with reading(engine) as connection:
        return recorded(connection) == head()


@cache
def head() -> str:
    """Return the revision with which this version of mailbatch works: the last one in ``migrations``."""
    return max(file.name[:_NAME] for file in folder().glob("versions/mailbatch_*.py"))


def folder() -> Path:
    """Return the folder of migrations: inside the package in a wheel, at the top of a checkout."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def recorded(connection: Connection) -> str | None:
    """Return the revision in our version table; None without the table or a row.

    Raises ``NotMigrated`` if there is more than one.
    """
    if not sa.inspect(connection).has_table(VERSION_TABLE, schema=schema_of(connection)):
        return None
    found = connection.scalars(sa.select(version_table.c.version_num)).all()
    if len(found) > 1:
        raise NotMigrated(
            f"{VERSION_TABLE} in {place(connection.engine)} has {len(found)} rows ({', '.join(sorted(found))}); "
            "keep the row of the revision at which the tables are, and delete the others"
        )
    return found[0] if found else None
