"""Alembic's entry point. ``mailbatch migrate`` passes an open connection; ``alembic`` uses the URL of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic import context
from alembic.operations import Operations
from alembic.operations.ops import CreateForeignKeyOp
from sqlalchemy import quoted_name

from mailbatch.infrastructure.db.location import schema_of
from mailbatch.infrastructure.db.tables import VERSION_TABLE, metadata

if TYPE_CHECKING:
    from alembic.operations.ops import MigrateOperation
    from sqlalchemy.engine import Connection


def run() -> None:
    """Migrate with the given connection, or with a new one."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    from mailbatch.bootstrap import read_settings
    from mailbatch.infrastructure.db.migrating import migrating

    settings = read_settings()
    with migrating(settings.database_url, settings.database_schema) as connection:
        _migrate(connection)


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        version_table_schema=schema_of(connection),
        transactional_ddl=True,
    )
    with context.begin_transaction(), Operations.context(context.get_context()) as operations:
        _name_the_schema(operations)
        context.get_context().run_migrations()


def _name_the_schema(operations: Operations) -> None:
    """Make each operation of a revision that names no schema use the schema of our tables.

    Statements that SQLAlchemy compiles (``metadata.create_all``, ``op.execute`` of an expression) use it already. SQL
    that a revision writes as text must name the schema: ``op.get_context().version_table_schema``.
    """
    named = operations.migration_context.version_table_schema
    # We quote it, because Alembic reads a dot in a name as the end of a database's name.
    schema = named and quoted_name(named, quote=True)
    invoke, batch_alter_table = operations.invoke, operations.batch_alter_table

    def invoke_there(operation: MigrateOperation) -> Any:
        if isinstance(operation, CreateForeignKeyOp):
            for side in ("source_schema", "referent_schema"):
                operation.kw[side] = operation.kw.get(side) or schema
        elif getattr(operation, "schema", "") is None:
            operation.schema = schema
        return invoke(operation)

    operations.invoke = invoke_there
    operations.batch_alter_table = lambda name, **how: batch_alter_table(name, **{"schema": schema, **how})


run()
