"""Column types and expressions that are the same on both databases: ids, times, the clock, JSON, sizes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from mailbatch.domain.moment import OddMoment
from mailbatch.infrastructure.db import stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.types import TypeEngine


class Text(sa.TypeDecorator[str]):
    """Text. On SQLite a column may hold bytes and numbers as well."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Bind the text without what databases refuse: a text that SQLite returned may hold lone surrogates."""
        return value if value is None else storable(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], str | None] | None:  # noqa: ARG002 - as above
        """Return the reader of a text. PostgreSQL needs none, because it stores only text here."""
        return None if dialect.name == "postgresql" else stored.text


class Bytes(sa.TypeDecorator[bytes]):
    """Bytes. On SQLite a column may hold text and numbers as well."""

    impl = sa.LargeBinary
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], bytes | None] | None:  # noqa: ARG002 - as above
        """Return the reader of bytes. Psycopg 3 needs none; an application's driver may return a memoryview."""
        return None if dialect.driver == "psycopg" else stored.octets


class Integer(sa.TypeDecorator[int]):
    """An integer. On SQLite a column may hold any value, of any size."""

    impl = sa.Integer
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], int | None] | None:  # noqa: ARG002 - as above
        """Return the reader of an integer. PostgreSQL needs none, because it stores only integers here."""
        return None if dialect.name == "postgresql" else stored.whole


class Float(sa.TypeDecorator[float]):
    """A finite number, or None. PostgreSQL also stores infinity and NaN, SQLite any value."""

    impl = sa.Float
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], float | None]:  # noqa: ARG002 - as above
        """Return the reader of a number."""
        return stored.number


class Json(sa.TypeDecorator[Any]):
    """JSON. ``shape`` turns any JSON value into the shape that its readers expect."""

    impl = sa.JSON
    cache_ok = True

    def __init__(self, shape: Callable[[Any], Any] | None = None) -> None:
        super().__init__(none_as_null=True)
        self.shape = shape

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type in which ``dialect`` stores it."""
        return dialect.type_descriptor(JSONB(none_as_null=True) if dialect.name == "postgresql" else self.impl_instance)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Return the reader of JSON. On PostgreSQL the driver reads it, by the ``json_deserializer`` of the engine."""
        shape = self.shape
        read = super().result_processor(dialect, coltype) if dialect.name == "postgresql" else stored.read_json_or_null
        if shape is None or read is None:
            return shape or read
        return lambda value: shape(read(value))


JSON = Json()


class Guid(sa.TypeDecorator[UUID]):
    """A UUID: native on PostgreSQL, lower-case text with dashes on SQLite."""

    impl = sa.String(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type in which ``dialect`` stores it."""
        return dialect.type_descriptor(sa.Uuid() if dialect.name == "postgresql" else sa.String(36))

    def process_bind_param(self, value: UUID | str | None, dialect: Dialect) -> Any:
        """Bind a UUID, or its text. Another text becomes NULL on PostgreSQL; on SQLite it may be the id of a row."""
        uuid = value if isinstance(value, UUID) else stored.guid(value)
        if dialect.name == "postgresql":
            return uuid if isinstance(uuid, UUID) else None
        return None if uuid is None else storable(str(uuid))

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], UUID | None] | None:  # noqa: ARG002 - as above
        """Return the reader of a UUID. Psycopg 3 needs none; an application's driver may return text."""
        return None if dialect.driver == "psycopg" else stored.guid


class Timestamp(sa.TypeDecorator[datetime]):
    """An aware point in time: ``timestamptz`` on PostgreSQL, ``YYYY-MM-DD HH:MM:SS.SSS`` in UTC on SQLite.

    On SQLite text is compared, so all times must have this one form. A CHECK of the table refuses any other.
    """

    impl = sa.String(23)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type in which ``dialect`` stores it."""
        postgresql = dialect.name == "postgresql"
        return dialect.type_descriptor(sa.TIMESTAMP(timezone=True) if postgresql else sa.String(23))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Bind an aware datetime. Raises ``ValueError`` if it has no time zone."""
        if value is None:
            return None
        if isinstance(value, OddMoment) and value.stored is not None:
            return storable(value.stored) if isinstance(value.stored, str) else value.stored
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        if dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:23]

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:  # noqa: ARG002 - as above
        """Return the reader of an aware datetime in UTC."""
        return stored.moment


class now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL that it becomes
    """The time of the database's clock, plus ``seconds``."""

    type = Timestamp()
    inherit_cache = True

    def __init__(self, seconds: float | sa.ColumnElement[float] = 0) -> None:
        super().__init__(sa.literal(float(seconds)) if isinstance(seconds, int | float) else seconds)


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    # statement_timestamp is STABLE, so an index range can end at it. With clock_timestamp every row would be read.
    return f"(statement_timestamp() + make_interval(secs => CAST({compiler.process(element.clauses, **kw)} AS float8)))"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', {compiler.process(element.clauses, **kw)} || ' seconds')"


class seconds_since(FunctionElement[float]):  # noqa: N801 - reads as the SQL that it becomes
    """Seconds from a stored time to now."""

    type = Float()
    inherit_cache = True


@compiles(seconds_since, "postgresql")
def _since_postgresql(element: seconds_since, compiler: SQLCompiler, **kw: Any) -> str:
    # Two epochs: before version 17 the difference to infinity is an error, but the epoch of infinity is infinity.
    since = f"extract(epoch FROM statement_timestamp()) - extract(epoch FROM {compiler.process(element.clauses, **kw)})"
    return f"CAST({since} AS float8)"


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
    """The default of an id column: a random UUID (version 4), for a plain INSERT without an id."""

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


class octets(FunctionElement[int]):  # noqa: N801 - reads as the SQL that it becomes
    """The size in bytes of a text or of bytes. PostgreSQL does not read the value for it; SQLite does."""

    type = sa.Integer()
    inherit_cache = True


@compiles(octets, "postgresql")
def _octets_postgresql(element: octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"coalesce(octet_length({compiler.process(element.clauses, **kw)}), 0)"


@compiles(octets, "sqlite")
def _octets_sqlite(element: octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"coalesce(length(CAST({compiler.process(element.clauses, **kw)} AS BLOB)), 0)"


class part(FunctionElement[bytes]):  # noqa: N801 - reads as the SQL that it becomes
    """Some bytes of a column: the first one, counted from 1, and how many."""

    type = Bytes()
    inherit_cache = True


@compiles(part, "postgresql")
def _part_postgresql(element: part, compiler: SQLCompiler, **kw: Any) -> str:
    column, start, count = (compiler.process(one, **kw) for one in element.clauses)
    return f"substring({column} FROM CAST({start} AS integer) FOR CAST({count} AS integer))"


@compiles(part, "sqlite")
def _part_sqlite(element: part, compiler: SQLCompiler, **kw: Any) -> str:
    column, start, count = (compiler.process(one, **kw) for one in element.clauses)
    return f"substr(CAST({column} AS BLOB), {start}, {count})"


MOST = 2**31 - 1
"""The largest number of an integer column."""


def raised(column: sa.ColumnElement[int], by: int | sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Return ``column`` + ``by``, at most ``MOST``. A value that is not a number (SQLite) counts as 0."""
    number = sa.cast(column, sa.Integer)
    return sa.case((number <= MOST - by, number + by), else_=MOST)


def upsert(connection: Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that has ON CONFLICT, in the dialect of ``connection``."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def text_of(value: Any) -> Any:
    """Return ``value``, decoded if the driver returned a text as bytes, as psycopg does with the encoding SQL_ASCII."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray | memoryview) else value


def storable(text: str) -> str:
    """Return ``text`` without characters that a database refuses: NUL becomes an escape, a lone surrogate ``?``."""
    if text.isascii() and "\x00" not in text:  # as nearly all are
        return text
    return text.replace("\x00", "\\x00").encode("utf-8", "replace").decode("utf-8")
