"""Takes over databases of earlier versions, which stored their revision in ``alembic_version``.

An application's Alembic uses the same table, so a row there may be the application's. Therefore the revision of such a
database is recognised by the columns of its tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine.reflection import ObjectKind

from mailbatch.domain.errors import NotMigrated
from mailbatch.infrastructure.db.location import place, qualified, schema_of
from mailbatch.infrastructure.db.tables import VERSION_TABLE, metadata

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import Connection

REVISIONS = {"0001": "mailbatch_0001", "0002": "mailbatch_0002"}
"""The revisions of earlier versions: the name that they used, and the name of the same revision now."""

_DELETION = "DELETE FROM {} WHERE version_num = '{}'"

_TABLES = sa.text("""
SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (:everywhere OR n.nspname = :schema)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
""")
"""All tables except those of PostgreSQL itself and of extensions."""

_shared = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), nullable=False))
_shared.append_constraint(sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"))
_v = _shared.c.version_num


def recognise(connection: Connection, scripts: ScriptDirectory) -> str | None:
    """Return the revision of the tables, by its earlier name; None if the database has no table with a name of ours.

    Raises ``NotMigrated`` if tables with our names have columns that no version of mailbatch gives them.
    """
    found = columns_of_ours(connection)
    if not found:
        return None
    where = f"the database {place(connection.engine)}"
    shapes = {revision: _shape(scripts, now) for revision, now in REVISIONS.items()}
    if later := _later(found, shapes["0002"]):
        raise NotMigrated(
            f"{where} has {later} of a later revision, and no row in {VERSION_TABLE}; restore that table from a backup"
        )
    for revision, shape in shapes.items():
        if found.keys() == shape.keys() and all(shape[name] <= found[name] for name in shape):
            return revision
    raise NotMigrated(_what_is_wrong(found, shapes["0002"], where))


def take_over(connection: Connection, older: str) -> str | None:
    """Remove the row ``older`` from ``alembic_version`` if only mailbatch can have written it.

    Otherwise leave it, and return what the operator has to run if it is not the application's.
    """
    rows = _rows(connection)
    if older not in rows:
        return None
    if rows == {older} and not _has_tables_of_others(connection):
        connection.execute(sa.delete(_shared).where(_v == older))
        if schema_of(connection) is not None:
            # In a schema of our own this table is of no use to an application, whose --autogenerate would drop it.
            _shared.drop(connection)
        return None
    table = qualified(connection, _shared)
    return (
        f"{table} still holds '{older}', which an earlier mailbatch or your application's Alembic wrote; "
        f"if your application's migrations have no revision '{older}', run: "
        f"{_DELETION.format(table, older)}"
    )


def hand_back(connection: Connection, revision: str) -> str | None:
    """Store ``revision`` in ``alembic_version``, where an earlier mailbatch looks for it.

    If others use the table, leave it, and return a sentence that says so.
    """
    older = next((name for name, now in REVISIONS.items() if now == revision), None)
    if older is None:
        return None
    if others := _rows(connection) - {older}:
        return f"alembic_version holds {_listed(others)}, not ours: no earlier mailbatch can work beside it"
    _shared.create(connection, checkfirst=True)
    connection.execute(sa.delete(_shared))
    connection.execute(sa.insert(_shared).values(version_num=older))
    connection.execute(sa.schema.DropTable(sa.Table(VERSION_TABLE, sa.MetaData())))
    return None


def columns_of_ours(connection: Connection) -> dict[str, set[str]]:
    """Return the columns of each table or view that has one of our names."""
    reflected = sa.inspect(connection).get_multi_columns(
        schema=schema_of(connection), filter_names=list(metadata.tables), kind=ObjectKind.ANY
    )
    return {name: {column["name"] for column in columns} for (_, name), columns in reflected.items() if columns}


def _shape(scripts: ScriptDirectory, revision: str) -> dict[str, set[str]]:
    """Return the columns that each table has at ``revision``, as the revisions up to it declare them."""
    shape: dict[str, set[str]] = {}
    for script in scripts.iterate_revisions(revision, "base"):
        for table in script.module.metadata.tables.values():
            shape.setdefault(table.name, set()).update(column.name for column in table.columns)
    return shape


def _later(found: dict[str, set[str]], shape: dict[str, set[str]]) -> str | None:
    """Return a table or column of ours that is newer than ``shape``; None if there is none.

    Return None too if ``found`` lacks a column of ``shape``: then the tables are not complete.
    """
    if not all(columns <= found.get(name, set()) for name, columns in shape.items()):
        return None
    for name in sorted(found):
        ours = set(metadata.tables[name].columns.keys())
        if name not in shape and ours <= found[name]:
            return name
        if new := (ours & found[name]) - shape.get(name, ours):
            return f"{name}.{min(new)}"
    return None


def _what_is_wrong(found: dict[str, set[str]], shape: dict[str, set[str]], where: str) -> str:
    foreign = {name: shape.get(name, set()) - columns for name, columns in found.items()}
    for name, lacking in sorted(foreign.items()):
        if lacking or name not in shape:
            why = f" (it has no column {min(lacking)})" if lacking else ""
            return f"{where} has a table {name} that is not mailbatch's{why}; rename it, or use another database"
    return (
        f"{where} has some of mailbatch's tables and lacks {_listed(shape.keys() - found.keys())}; "
        "restore them, or drop the others, then run `mailbatch migrate`"
    )


def _rows(connection: Connection) -> set[str]:
    if not sa.inspect(connection).has_table(_shared.name, schema=schema_of(connection)):
        return set()
    return set(connection.execute(sa.select(_v)).scalars())


def _has_tables_of_others(connection: Connection) -> bool:
    """Return whether there are tables of an application that may use the same ``alembic_version``.

    If mailbatch has no schema of its own, any table of the database counts: an application may have its tables in
    other schemas, and its ``alembic_version`` in the schema in which ours was.
    """
    known = {*metadata.tables, _shared.name, VERSION_TABLE}
    if connection.dialect.name != "postgresql":
        return bool(set(sa.inspect(connection).get_table_names()) - known)
    schema = schema_of(connection)
    found = connection.execute(_TABLES, {"everywhere": schema is None, "schema": schema or ""})
    return bool(set(found.scalars()) - known)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
