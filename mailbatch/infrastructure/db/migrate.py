"""The schema's version: bring it up, take it down, and refuse to work on another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from mailbatch.domain.errors import NotMigrated
from mailbatch.infrastructure.db import older
from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.location import place, schema_of
from mailbatch.infrastructure.db.migrating import migrating, settle_schema
from mailbatch.infrastructure.db.revision import folder, head, recorded, version_table
from mailbatch.infrastructure.db.tables import VERSION_TABLE, metadata

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

_OURS = "mailbatch_"
"""How the name of each of our revisions begins."""


def upgrade(url: str, revision: str = "head", *, schema: str | None = None) -> list[str]:
    """Bring the tables of the database at ``url`` up to ``revision``; return what its owner must know.

    A ``schema`` that is not there is made. Raises ``StoreError``, and ``NotMigrated`` if tables bear our names that are
    not ours.
    """
    with migrating(url, schema) as connection:
        settle_schema(connection)
        notes = _take_over(connection)
        command.upgrade(_config(connection), revision)
    return notes


def downgrade(url: str, revision: str = "base", *, schema: str | None = None) -> list[str]:
    """Take the schema down to ``revision``; ``base`` removes every table, and what is in them.

    A revision that earlier versions know is written where they look for it. Returns and raises as ``upgrade``.
    """
    with migrating(url, schema) as connection:
        notes = _take_over(connection)
        command.downgrade(_config(connection), revision)
        reached = recorded(connection)
        if reached is None:
            version_table.drop(connection, checkfirst=True)
        elif note := older.hand_back(connection, reached):
            notes = [note]
    return notes


def revisions() -> list[str]:
    """The revisions of this version, upwards; ``base``, no tables at all, comes first."""
    return ["base", *[script.revision for script in _scripts().walk_revisions()][::-1]]


def leads_down(found: str | None, revision: str) -> bool:
    """Whether a database at ``found`` goes down to ``revision``, or stays there for an earlier version to take it over.

    ``revision`` is one of ``revisions``; ``found`` as ``current`` returns it.
    """
    now = older.REVISIONS.get(found or "base", found or "base")
    return now in revisions()[revisions().index(revision) :] and (now != revision or now in older.REVISIONS.values())


def current(engine: Engine) -> str | None:
    """The revision at which the database is; None for a database without our tables.

    Raises ``NotMigrated`` if its tables cannot be ours, or their revision is not clear.
    """
    with reading(engine) as connection:
        return recorded(connection) or older.recognise(connection, _scripts())


def ensure_migrated(engine: Engine) -> None:
    """Raise ``NotMigrated``, saying what to run, unless the schema is the one that this version works with."""
    found = current(engine)
    if found == head():
        return
    if found is None:
        raise NotMigrated(f"the database {place(engine)} has no mailbatch tables; run `mailbatch migrate`")
    _refuse_a_newer(found, engine)
    raise NotMigrated(
        f"the database {place(engine)} is at revision {found}, this mailbatch needs {head()}; run `mailbatch migrate`"
    )


def ensure_whole(engine: Engine) -> None:
    """Raise ``NotMigrated`` as ``ensure_migrated``, and also if tables or columns of the revision are missing."""
    ensure_migrated(engine)
    with reading(engine) as connection:
        found = older.columns_of_ours(connection)
    lacking = [
        table.name if table.name not in found else f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name not in found.get(table.name, ())
    ]
    if lacking:
        raise NotMigrated(
            f"the database {place(engine)} is at revision {head()} and lacks {', '.join(dict.fromkeys(lacking))}; "
            "restore what is missing from a backup"
        )


def _refuse_a_newer(found: str, engine: Engine) -> None:
    if found in {*revisions(), *older.REVISIONS}:
        return
    if not found.startswith(_OURS):
        raise NotMigrated(
            f"{VERSION_TABLE} in {place(engine)} holds {found}, which no mailbatch has written; "
            f"write the revision of the tables there, such as {head()}"
        )
    raise NotMigrated(
        f"the database {place(engine)} is at revision {found}, this mailbatch knows revisions up to {head()}; "
        "it was migrated by a newer mailbatch: upgrade this one"
    )


def _take_over(connection: Connection) -> list[str]:
    """Record the revision of tables that an earlier version made."""
    if (now := recorded(connection)) is not None:
        _refuse_a_newer(now, connection.engine)
        return []
    scripts = _scripts()
    found = older.recognise(connection, scripts)
    if found is None:
        return []
    _context(connection).stamp(scripts, older.REVISIONS[found])
    note = older.take_over(connection, found)
    return [note] if note else []


def _context(connection: Connection) -> MigrationContext:
    opts = {"version_table": VERSION_TABLE, "version_table_schema": schema_of(connection)}
    return MigrationContext.configure(connection, opts=opts)


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
