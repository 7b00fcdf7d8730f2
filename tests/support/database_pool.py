"""Lends migrated, empty PostgreSQL databases. A database is lent again if its test changed nothing but rows.

Emptying a database costs a fraction of the CPU that copying one and dropping it costs, which is 0.1 s.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from mailbatch.infrastructure.db.tables import VERSION_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres import PostgresServer

_UNWRITTEN = (
    *("pg_attrdef", "pg_attribute", "pg_collation", "pg_constraint", "pg_default_acl", "pg_depend", "pg_event_trigger"),
    *("pg_extension", "pg_foreign_server", "pg_index", "pg_largeobject_metadata", "pg_namespace", "pg_policy"),
    *("pg_proc", "pg_publication", "pg_rewrite", "pg_sequence", "pg_statistic", "pg_statistic_ext", "pg_trigger"),
    *("pg_type", VERSION_TABLE),
)
"""Tables into which a test that changes only rows writes nothing. TRUNCATE, too, leaves them as they are."""
_TABLES = """
SELECT concat_ws(' ', oid, relnamespace, relname, relkind, relowner, relacl, reloptions, relhasrules, relhastriggers,
    relrowsecurity, relforcerowsecurity, relpersistence, relpages, reltuples) FROM pg_class WHERE oid >= 16384"""
_DATABASE = """
SELECT concat_ws(' ', d.datdba, d.datacl, d.datconnlimit, s.setrole, s.setconfig)
FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid WHERE d.datname = current_database()"""
_VERSIONS = [f"SELECT concat_ws(' ', '{name}', count(*), sum(xmin::text::bigint)) FROM {name}" for name in _UNWRITTEN]  # noqa: S608
_SHAPE = " UNION ALL ".join([_TABLES, _DATABASE, *_VERSIONS])
_AT_LEAST = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND c.relkind = 'r' AND c.relname <> %s AND pg_relation_size(c.oid) >= %s"""
_OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""


class DatabasePool:
    """The databases of ``server`` that are copies of ``template``."""

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server = server
        self._template = template
        self._free: list[tuple[str, set[str]]] = []

    @contextmanager
    def lent(self) -> Iterator[str]:
        """The name of a database for one test. No other test has that name, so what outlives a test finds nothing."""
        name, shape = self._taken()
        yield name
        try:
            with self._server.connected(name) as connection:
                is_as_before = _emptied(connection, shape)
        except psycopg.Error:
            is_as_before = False
        if is_as_before:
            self._free.append((name, shape))
        else:
            self._server.drop_database(name)

    def _taken(self) -> tuple[str, set[str]]:
        if self._free:
            name, shape = self._free.pop()
            return self._server.rename_database(name), shape
        name = self._server.create_database(self._template)
        with self._server.connected(name) as connection:
            return name, _shape(connection)


def _emptied(connection: psycopg.Connection, shape: set[str]) -> bool:
    """Remove all rows, and return whether the rest is as in ``shape``."""
    connection.execute(_OTHERS)
    truncate(connection)
    return _shape(connection) == shape


def truncate(connection: psycopg.Connection, at_least: int = 1) -> None:
    """Remove all rows from the tables that have at least so many bytes.

    It also resets what the planner knows of them. So a template is truncated whole: all its copies are alike.
    """
    if found := connection.execute(_AT_LEAST, [VERSION_TABLE, at_least]).fetchall():
        tables = sql.SQL(", ").join(sql.Identifier(*row) for row in found)
        connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(tables))


def _shape(connection: psycopg.Connection) -> set[str]:
    """All that makes two databases differ except for the rows of their tables."""
    return {row[0] for row in connection.execute(_SHAPE)}
