"""The privileges that each kind of role needs on PostgreSQL: makes the GRANTs, and finds what a role lacks."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.location import qualified, schema_of
from mailbatch.infrastructure.db.tables import VERSION_TABLE, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.engine import Connection, Engine


class Duty(StrEnum):
    """What a role does."""

    RESERVE = "reserve"
    SEND = "send"
    OPERATE = "operate"
    READ = "read"


FOR: dict[Duty, str] = {
    Duty.RESERVE: "an application that only reserves; `mailbatch reserve` and `import`",
    Duty.SEND: "worker, beat, and `send-all --here`",
    Duty.OPERATE: "`serve` with API_TOKEN, and the commands that act",
    Duty.READ: "`serve` with API_READ_TOKEN, and the commands that look",
}
"""Which programs need the role of a duty."""
_LOOK = ("SELECT",)
_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
_RESERVE: Mapping[str, tuple[str, ...]] = {
    # SELECT, because RETURNING reads the id, and because the row of a key that is used again is read.
    "mail_reservations": ("INSERT", "SELECT (id, idempotency_key)"),
    "mail_traces": ("INSERT",),
    # A file that is there already is locked and touched, so that it is not purged; it is not written again.
    "mail_files": ("INSERT", "SELECT (id, size, touched_at)", "UPDATE (touched_at)"),
}
_SEND: Mapping[str, tuple[str, ...]] = {
    "api_answers": (),
    "mail_traces": _LOOK,
    "operator_actions": ("SELECT", "INSERT", "UPDATE"),
}
"""A table that is not named here: all privileges."""
_OPERATE: Mapping[str, tuple[str, ...]] = {
    "mail_reservations": _ALL,
    "mail_files": _ALL,
    "mail_traces": ("SELECT", "INSERT"),
    "operator_actions": ("SELECT", "INSERT", "UPDATE"),
    "api_answers": _ALL,
    "batch_schedule": ("SELECT", "INSERT", "UPDATE"),
    "incidents": ("SELECT", "INSERT", "UPDATE"),
    "mail_blocks": ("SELECT", "INSERT", "UPDATE"),
    # `stop` writes one column.
    "batch_runs": ("SELECT", "UPDATE", "DELETE"),
}
"""A table that is not named here: SELECT only."""
_SCHEMA = sa.text(
    "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.oid = to_regclass(:table)"
)


def needed(duty: Duty) -> dict[str, tuple[str, ...]]:
    """Return the privileges that a role of ``duty`` needs, by table; none for a table that it does not use."""
    match duty:
        case Duty.RESERVE:
            found = dict(_RESERVE)
        case Duty.SEND:
            found = {table: _SEND.get(table, _ALL) for table in metadata.tables}
        case Duty.OPERATE:
            found = {table: _OPERATE.get(table, _LOOK) for table in metadata.tables}
        case Duty.READ:
            found = dict.fromkeys(metadata.tables, _LOOK)
    return {table: privileges for table, privileges in {**found, VERSION_TABLE: _LOOK}.items() if privileges}


def statements(engine: Engine, duty: Duty, role: str) -> list[str]:
    """Return the GRANT statements that ``role`` needs for ``duty``. Raises ``StoreError``."""
    with reading(engine) as connection:
        return list(_statements(connection, duty, role))


def missing(engine: Engine, duty: Duty) -> list[str]:
    """Return the privileges that the role of ``engine`` lacks for ``duty``, such as "UPDATE on batch_runs".

    Privileges on single columns are not checked. Only reserving needs them, and a statement that lacks one fails.
    Raises ``StoreError``.
    """
    if engine.dialect.name != "postgresql":
        return []
    wanted = [(table, one) for table, privileges in needed(duty).items() for one in privileges if "(" not in one]
    with reading(engine) as connection:
        names = {table: qualified(connection, sa.table(table)) for table, _ in wanted}
        may = [sa.func.has_table_privilege(names[table], privilege) for table, privilege in wanted]
        found = connection.execute(sa.select(*may)).one()
    return [f"{privilege} on {table}" for (table, privilege), has in zip(wanted, found, strict=True) if not has]


def _statements(connection: Connection, duty: Duty, role: str) -> Iterator[str]:
    preparer = connection.dialect.identifier_preparer
    schema = schema_of(connection) or connection.scalar(_SCHEMA, {"table": "mail_reservations"})
    if schema is not None:
        yield f"GRANT USAGE ON SCHEMA {preparer.quote(schema)} TO {preparer.quote(role)};"
    by_privileges: dict[tuple[str, ...], list[str]] = {}
    for table, privileges in needed(duty).items():
        by_privileges.setdefault(privileges, []).append(preparer.format_table(sa.table(table, schema=schema)))
    for privileges, tables in by_privileges.items():
        yield f"GRANT {', '.join(privileges)} ON {', '.join(sorted(tables))} TO {preparer.quote(role)};"
