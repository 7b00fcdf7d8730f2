"""Column types and expressions that mean the same on every database: ids, points in time, now, and JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.types import TypeEngine

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Guid(sa.TypeDecorator[UUID]):
    """A UUID: native on PostgreSQL, lower-case text with dashes on SQLite."""

    impl = sa.String(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the stored form."""
        return dialect.type_descriptor(sa.Uuid() if dialect.name == "postgresql" else sa.String(36))

    def process_bind_param(self, value: UUID | str | None, dialect: Dialect) -> Any:
        """Bind a UUID, or its text."""
        if value is None:
            return None
        uuid = value if isinstance(value, UUID) else UUID(value)
        return uuid if dialect.name == "postgresql" else str(uuid)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], UUID | None] | None:
        """Psycopg 3 returns UUIDs already; another driver of an application may return text."""
        return None if dialect.driver == "psycopg" else super().result_processor(dialect, coltype)

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Read a UUID."""
        return None if value is None else UUID(str(value))


class Timestamp(sa.TypeDecorator[datetime]):
    """An aware point in time: ``timestamptz`` on PostgreSQL, ``YYYY-MM-DD HH:MM:SS.SSS`` in UTC on SQLite.

    The one stored form is what makes text compare as time; a CHECK of the table holds every writer to it.
    """

    impl = sa.String(23)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the stored form."""
        postgresql = dialect.name == "postgresql"
        return dialect.type_descriptor(sa.TIMESTAMP(timezone=True) if postgresql else sa.String(23))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Bind an aware datetime."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        if dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:23]

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - as above
        """Read an aware datetime in UTC."""
        if value is None:
            return None
        when = value if isinstance(value, datetime) else datetime.fromisoformat(value).replace(tzinfo=UTC)
        return when.astimezone(UTC)


class now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL that it becomes
    """The database's own clock, to which ``seconds`` may be added."""

    type = Timestamp()
    inherit_cache = True

    def __init__(self, seconds: float | sa.ColumnElement[float] = 0) -> None:
        super().__init__(sa.literal(float(seconds)) if isinstance(seconds, int | float) else seconds)


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    # statement_timestamp is STABLE, so an index range can end at it; clock_timestamp is not, and would read every row.
    return f"(statement_timestamp() + make_interval(secs => CAST({compiler.process(element.clauses, **kw)} AS float8)))"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', {compiler.process(element.clauses, **kw)} || ' seconds')"


class seconds_since(FunctionElement[float]):  # noqa: N801 - reads as the SQL that it becomes
    """Seconds from a stored point in time to now."""

    type = sa.Float()
    inherit_cache = True


@compiles(seconds_since, "postgresql")
def _since_postgresql(element: seconds_since, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST(extract(epoch FROM statement_timestamp() - {compiler.process(element.clauses, **kw)}) AS float8)"


@compiles(seconds_since, "sqlite")
def _since_sqlite(element: seconds_since, compiler: SQLCompiler, **kw: Any) -> str:
    return f"((julianday('now') - julianday({compiler.process(element.clauses, **kw)})) * 86400.0)"


class server_now(FunctionElement[datetime]):  # noqa: N801
    """The default of a time column."""

    type = Timestamp()
    inherit_cache = True


@compiles(server_now, "postgresql")
def _default_now_postgresql(_element: server_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "now()"


@compiles(server_now, "sqlite")
def _default_now_sqlite(_element: server_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now'))"


class server_uuid(FunctionElement[UUID]):  # noqa: N801
    """The default of an id column: a random UUID (version 4), for rows that a plain INSERT brings."""

    type = Guid()
    inherit_cache = True


@compiles(server_uuid, "postgresql")
def _default_uuid_postgresql(_element: server_uuid, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "gen_random_uuid()"


@compiles(server_uuid, "sqlite")
def _default_uuid_sqlite(_element: server_uuid, _compiler: SQLCompiler, **_kw: Any) -> str:
    return (
        "(lower(hex(randomblob(4))) || '-' || lower(hex(randomblob(2))) || '-4' || "
        "substr(lower(hex(randomblob(2))), 2) || '-' || substr('89ab', (abs(random()) % 4) + 1, 1) || "
        "substr(lower(hex(randomblob(2))), 2) || '-' || lower(hex(randomblob(6))))"
    )


def upsert(connection: Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT, in the dialect of ``connection``."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def text_of(value: Any) -> Any:
    """``value``; text where a driver reads texts as bytes, as psycopg does under the encoding SQL_ASCII."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray | memoryview) else value


def storable(text: str) -> str:
    """``text`` without what some database refuses: NUL is written as an escape, lone surrogates as ``?``."""
    if text.isascii() and "\x00" not in text:  # as nearly all are
        return text
    return text.replace("\x00", "\\x00").encode("utf-8", "replace").decode("utf-8")
