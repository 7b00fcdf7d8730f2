"""Alembic's entry: ``mailbatch migrate`` hands over an open connection; ``alembic`` by hand takes the settings' URL."""

from __future__ import annotations

from alembic import context

from mailbatch.infrastructure.db.tables import metadata


def run() -> None:
    """Migrate over the connection given, or over a new one."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    from mailbatch import config
    from mailbatch.infrastructure.db.engine import connect

    engine = connect(config.load().database_url)
    try:
        with engine.begin() as connection:
            _migrate(connection)
    finally:
        engine.dispose()


def _migrate(connection: object) -> None:
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


run()
