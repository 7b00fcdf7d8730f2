"""Alembic's entry: ``mailbatch migrate`` hands over an open connection; ``alembic`` by hand takes the settings' URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import context

from mailbatch.infrastructure.db.tables import VERSION_TABLE, metadata

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def run() -> None:
    """Migrate over the connection given, or over a new one."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    from mailbatch import config
    from mailbatch.infrastructure.db.migrate import migrating

    with migrating(config.load().database_url) as (connection, _):
        _migrate(connection)


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=metadata, version_table=VERSION_TABLE, transactional_ddl=True
    )
    with context.begin_transaction():
        context.run_migrations()


run()
