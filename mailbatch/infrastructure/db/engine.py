"""Connections to the database, and the transactions on them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from mailbatch.domain.errors import StoreError
from mailbatch.infrastructure.db import sessions
from mailbatch.infrastructure.db.driver_errors import describe, first_line, is_transient
from mailbatch.infrastructure.db.location import in_schema, place
from mailbatch.infrastructure.db.stored import far, read_json
from mailbatch.infrastructure.db.urls import read_database_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import URL, Connection, Engine
    from sqlalchemy.engine.interfaces import ExceptionContext

    from mailbatch.infrastructure.db.url_parameters import Parameters

BUSY_TIMEOUT = 15.0
"""Seconds for which an SQLite writer waits for another."""
CONNECT_TIMEOUT = 5
"""Seconds after which a PostgreSQL that does not answer counts as away."""
_KEEPALIVE = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
"""Parameters of libpq (seconds; the last in milliseconds): a server whose host vanishes is noticed after half a minute.

The defaults of the system notice it after 15 minutes to two hours. All this time the run would renew its lock, and no
other run could send. Parameters in the URL override these.
"""

_NAMED = {"application_name": "mailbatch", "client_encoding": "utf8"}
_POOL = {"pool_pre_ping": True, "pool_size": 5}
_READ_ONLY = "mailbatch_read_only"
_LOCAL = "mailbatch_local"
_BY_VALUE = (ValueError, TypeError, ArithmeticError, LookupError, NotImplementedError)
"""The exceptions outside of its API that a driver raises for a value that it cannot read or write."""


def connect(url: str, schema: str | None = None) -> Engine:
    """Return an engine for ``url``. It opens nothing before it is used. Every forked process makes its own.

    With ``schema`` each statement names our tables in that schema of PostgreSQL, whatever the search_path is.

    Raises ``StoreError`` if the driver is missing, and ``ValueError`` for a URL that ``read_database_url`` refuses.
    """
    read = read_database_url(url)
    given = read.parameters
    place_of = sa.make_url(read.text).set(query=given.url)
    if place_of.get_backend_name() == "sqlite":
        return _sqlite(place_of, given)
    try:
        engine = sa.create_engine(
            place_of,
            **_POOL | given.engine,
            json_deserializer=read_json,
            # The text of an error goes into reports and logs, and must not contain a mail.
            hide_parameters=True,
            # In the BEGIN of each transaction, so that it holds behind a pooler, and whatever the role's default is.
            isolation_level="READ COMMITTED",
            use_native_hstore=False,
            execution_options=in_schema(schema),
            connect_args=_NAMED | _KEEPALIVE | given.connection,
        )
    except ModuleNotFoundError as error:
        raise StoreError(
            f"PostgreSQL needs the driver {error.name}: pip install 'mailbatch[postgres]'", transient=False
        ) from error

    # Before SQLAlchemy's own first statements.
    @event.listens_for(engine, "connect", insert=True)
    def _settle_in(raw: Any, record: Any) -> None:
        record.info[_LOCAL] = sessions.settle_in(raw, place(engine))

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads = bool(connection.get_execution_options().get(_READ_ONLY))
        raw: Any = connection.connection.driver_connection
        if raw.read_only is not reads:
            raw.read_only = reads
        beginning = connection.info[_LOCAL]
        if local := beginning.reading if reads else beginning.writing:
            connection.exec_driver_sql(local)

    event.listen(engine, "connect", _read_any_time)
    _tell_all(engine)
    return engine


def _read_any_time(raw: Any, _record: Any) -> None:
    """Make this connection read times that Python cannot represent: infinity, and years before 1 or after 9999."""
    from psycopg import DataError
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    strict = raw.adapters.get_loader(raw.adapters.types["timestamptz"].oid, Format.TEXT)

    class AnyTime(Loader):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._strict = strict(oid, context).load

        def load(self, data: Any) -> Any:
            try:
                return self._strict(data)
            except DataError:
                return far(bytes(data).decode())

    raw.adapters.register_loader("timestamptz", AnyTime)


def _sqlite(url: URL, given: Parameters) -> Engine:
    timeout = {} if "timeout" in url.query else {"timeout": BUSY_TIMEOUT}
    engine = sa.create_engine(
        url, **given.engine, json_deserializer=read_json, hide_parameters=True, connect_args=timeout
    )

    @event.listens_for(engine, "connect")
    def _settle_in(raw: Any, _record: Any) -> None:
        # We begin transactions ourselves. The driver's BEGIN is deferred: of two writers that meet, one would fail.
        raw.isolation_level = None
        # A plain INSERT may store bytes that are not UTF-8. They must fail that mail only, and not every run.
        raw.text_factory = _lenient
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            raw.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get(_READ_ONLY)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    _tell_all(engine)
    return engine


def _tell_all(engine: Engine) -> None:
    """Raise ``StoreError`` for the exceptions ``_BY_VALUE`` of a driver, which SQLAlchemy passes on as they are."""

    @event.listens_for(engine, "handle_error")
    def _translate(context: ExceptionContext) -> None:
        error = context.original_exception
        if not isinstance(context.sqlalchemy_exception, exc.DBAPIError) and isinstance(error, _BY_VALUE):
            raise StoreError(f"database {place(engine)}: {first_line(error)}", transient=False) from error


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction, and commit it at the end. Raises ``StoreError``."""
    with _translated(engine), engine.begin() as connection:
        yield connection


@contextmanager
def rolled_back(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that may write, and roll it back at the end. Raises ``StoreError``."""
    with _translated(engine), engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that reads only, and waits for no writer. Raises ``StoreError``."""
    with _translated(engine), engine.connect().execution_options(**{_READ_ONLY: True}) as connection:
        yield connection


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        raise StoreError(describe(error, engine), transient=is_transient(error)) from error
    except exc.TimeoutError as error:
        raise StoreError("every database connection of this process is in use", transient=True) from error
    except engine.dialect.loaded_dbapi.Error as error:
        raise StoreError(f"database {place(engine)}: {first_line(error)}", transient=False) from error
