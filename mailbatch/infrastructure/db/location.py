"""Which database and which schema an engine or a connection uses, and the names of our tables there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine


def in_schema(schema: str | None) -> dict[str, Any]:
    """Return the execution options with which statements name our tables in ``schema``; none for None."""
    return {} if schema is None else {"schema_translate_map": {None: schema}}


def schema_of(place: Engine | Connection) -> str | None:
    """Return the schema in which statements name our tables, or None if the search path of the connection decides."""
    found: str | None = (place.get_execution_options().get("schema_translate_map") or {}).get(None)
    return found


def qualified(connection: Connection, table: sa.FromClause) -> str:
    """Return the name of ``table`` as SQL spells it, with its schema if one is set for ``connection``."""
    preparer = connection.dialect.identifier_preparer
    return preparer.format_table(sa.table(str(table.description), schema=schema_of(connection)))


def place(engine: Engine) -> str:
    """Return where the tables are: the path of a file, or host, port, database and schema. It has no password."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        from pathlib import Path

        return str(Path(url.database or "").resolve())
    where = url.host or url.query.get("host") or "localhost"
    schema = schema_of(engine)
    inside = "" if schema is None else f", schema {schema}"
    return f"{url.get_backend_name()}://{where}:{url.port or 5432}/{url.database or ''}{inside}"
