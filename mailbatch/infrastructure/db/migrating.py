"""The transaction of a migration: only one at a time, all of it or nothing, and without the loss of a row."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from mailbatch.domain.errors import NotMigrated, StoreError
from mailbatch.infrastructure.db import sessions
from mailbatch.infrastructure.db.engine import connect, writing
from mailbatch.infrastructure.db.location import place, qualified, schema_of
from mailbatch.infrastructure.db.tables import VERSION_TABLE, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

_MIGRATION_LOCK = 0x6D61696C
"""The first half of the key of PostgreSQL's advisory lock around a migration: "mail" in ASCII."""
_LOCK_TIMEOUT = "10s"
"""How long a statement waits for a table that is in use. While it waits, all later statements on the table wait too."""


@contextmanager
def migrating(url: str, schema: str | None = None) -> Iterator[Connection]:
    """Yield a connection in the transaction of a migration. It is committed at the end, unless rows would be lost.

    Raises ``StoreError`` if the database fails or rows would be lost.
    """
    engine = connect(url, schema)
    whole = _losing_nothing if engine.dialect.name == "sqlite" else _in_turn
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _let_tables_be_made_anew)
    try:
        with writing(engine) as connection, whole(connection):
            had_version_table = _has_version_table(connection)
            yield connection
            if not had_version_table and _has_version_table(connection):
                _let_everybody_read_the_version(connection)
    finally:
        engine.dispose()


def _has_version_table(connection: Connection) -> bool:
    return sa.inspect(connection).has_table(VERSION_TABLE, schema=schema_of(connection))


def settle_schema(connection: Connection) -> None:
    """Create the schema of our tables if it does not exist.

    Raises ``NotMigrated`` if this role may not create it, or if new tables would be in another schema than the old.
    """
    schema = schema_of(connection)
    if schema is None:
        _ensure_they_stay_together(connection)
    elif not sa.inspect(connection).has_schema(schema):
        _make_schema(connection, schema)


def _make_schema(connection: Connection, schema: str) -> None:
    statement = sa.schema.CreateSchema(schema)
    try:
        connection.execute(statement)
    except exc.ProgrammingError as error:
        advice = f"run this as a role that may: {statement.compile(connection)} AUTHORIZATION {_role(connection)}"
        raise NotMigrated(
            f"there is no such schema at {place(connection.engine)}, and this role may not make it; {advice}"
        ) from error


def _role(connection: Connection) -> str:
    return connection.dialect.identifier_preparer.quote(connection.engine.url.username or "…")


# --- PostgreSQL ---


def _ensure_they_stay_together(connection: Connection) -> None:
    """Raise ``NotMigrated`` if our tables are not in the schema in which new ones are created.

    PostgreSQL finds a table in any schema of the search path, and creates one in the first.
    """
    if connection.dialect.name != "postgresql":
        return
    question = (
        "SELECT n.nspname, current_schema() FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('mail_reservations')"
    )
    found = connection.exec_driver_sql(question).one_or_none()
    if found is not None and found[0] != found[1]:
        raise NotMigrated(
            f"mailbatch's tables at {place(connection.engine)} are in the schema {found[0]}, and this role makes new "
            f"ones in {found[1]}; set MAILBATCH_DATABASE_SCHEMA={found[0]}"
        )


@contextmanager
def _in_turn(connection: Connection) -> Iterator[None]:
    """Wait until no other migration of this schema is running, and lift the limits on how long a statement may take."""
    connection.exec_driver_sql(sessions.WITHOUT_LIMITS)
    name = sa.func.coalesce(sa.cast(sa.bindparam("schema", schema_of(connection)), sa.Text), sa.func.current_schema())
    lock = sa.func.pg_advisory_xact_lock(sa.cast(_MIGRATION_LOCK, sa.Integer), sa.func.hashtext(name))
    connection.execute(sa.select(lock))
    unset = sa.func.current_setting("lock_timeout") == "0"
    connection.execute(sa.select(sa.func.set_config("lock_timeout", _LOCK_TIMEOUT, sa.true())).where(unset))
    yield


def _let_everybody_read_the_version(connection: Connection) -> None:
    """Let every role read the revision of the tables: each one checks it before it sends or reserves."""
    if connection.dialect.name == "postgresql":
        name = qualified(connection, sa.Table(VERSION_TABLE, sa.MetaData()))
        connection.exec_driver_sql(f"GRANT SELECT ON {name} TO PUBLIC")


# --- SQLite ---


def _let_tables_be_made_anew(raw: Any, _record: Any) -> None:
    """Set the pragmas with which a table can be rebuilt. This is done before BEGIN: later they have no effect."""
    # Rebuilding a table drops the old one. DROP TABLE would delete the rows of other tables that refer to it.
    raw.execute("PRAGMA foreign_keys=OFF").close()
    # Then it renames the new one. RENAME would fail if a view or a trigger of the application names the table.
    raw.execute("PRAGMA legacy_alter_table=ON").close()


@contextmanager
def _losing_nothing(connection: Connection) -> Iterator[None]:
    """Raise ``StoreError`` if a table has fewer rows afterwards, or more rows whose foreign key refers to no row.

    BEGIN IMMEDIATE keeps other writers waiting. PostgreSQL needs no such check: it refuses to drop a table to which
    others refer. And counting would hold its locks for a long time.
    """
    rows, orphans = _rows(connection), _orphans(connection)
    yield
    left, strays = _rows(connection), _orphans(connection)
    lost = {table: count - left[table] for table, count in rows.items() if left.get(table, count) < count}
    torn = {table: count - orphans.get(table, 0) for table, count in strays.items() if count > orphans.get(table, 0)}
    for table, count in (lost | torn).items():
        what = "would be lost" if table in lost else "would refer to nothing"
        raise StoreError(
            f"{count} rows of {table} in {place(connection.engine)} {what}, so nothing was changed", transient=False
        )


def _rows(connection: Connection) -> dict[str, int]:
    present = metadata.tables.keys() & set(sa.inspect(connection).get_table_names())
    count = sa.select(sa.func.count())
    return {name: connection.scalar(count.select_from(sa.table(name))) or 0 for name in sorted(present)}


def _orphans(connection: Connection) -> dict[str, int]:
    """Count the rows whose foreign key refers to no row, for each table that refers to one of ours."""
    inspector = sa.inspect(connection)
    quote = connection.dialect.identifier_preparer.quote
    return {
        table: len(connection.exec_driver_sql(f"PRAGMA foreign_key_check({quote(table)})").all())
        for table in inspector.get_table_names()
        if any(key["referred_table"] in metadata.tables for key in inspector.get_foreign_keys(table))
    }
