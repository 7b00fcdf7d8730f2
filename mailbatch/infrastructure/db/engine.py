"""Connections to the database, and its errors in our words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from mailbatch.domain.errors import StoreError
from mailbatch.infrastructure.db import sessions
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
"""So that a server whose host vanishes without a word is missed after half a minute (libpq; seconds, but the last).

By the system's own measures that takes from a quarter of an hour to two hours, while the lock is renewed: nobody else
could send either. What the URL says goes before.
"""

_NAMED = {"application_name": "mailbatch", "client_encoding": "utf8"}
_POOL = {"pool_pre_ping": True, "pool_size": 5}
_READ_ONLY = "mailbatch_read_only"
_LOCAL = "mailbatch_local"
# SQLSTATE classes after which the same statement may succeed: connection, rollback, resources, lock, operator, system,
# read-only (a standby that is being promoted).
# 0A000: a standby refuses BEGIN READ WRITE, and a prepared statement whose table was migrated is prepared anew.
_TRANSIENT = ("08", "40", "53", "55", "57", "58", "0A000", "25006", "XX000")
_BY_VALUE = (ValueError, TypeError, ArithmeticError, LookupError, NotImplementedError)
"""What a driver raises, beside the errors of its API, for a value that it cannot read or write."""


def connect(url: str, schema: str | None = None) -> Engine:
    """An engine for ``url``; nothing is opened before it is used. Every forked process makes its own.

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
            # An error that breaks a job is written into reports and logs: it must not repeat a mail.
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
    """Have times read that Python has no number for: infinity, and years before 1 and from 10000."""
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


def in_schema(schema: str | None) -> dict[str, Any]:
    """The execution options by which statements name our tables in ``schema``; none for None."""
    return {} if schema is None else {"schema_translate_map": {None: schema}}


def schema_of(place: Engine | Connection) -> str | None:
    """The schema in which statements name our tables; None where the connection's own search path decides."""
    found: str | None = (place.get_execution_options().get("schema_translate_map") or {}).get(None)
    return found


def _sqlite(url: URL, given: Parameters) -> Engine:
    timeout = {} if "timeout" in url.query else {"timeout": BUSY_TIMEOUT}
    engine = sa.create_engine(
        url, **given.engine, json_deserializer=read_json, hide_parameters=True, connect_args=timeout
    )

    @event.listens_for(engine, "connect")
    def _settle_in(raw: Any, _record: Any) -> None:
        # We begin transactions ourselves: the driver's own, deferred BEGIN lets two writers meet and one of them fail.
        raw.isolation_level = None
        # A plain INSERT may store bytes that are no UTF-8: they are that mail's error, not the end of every run.
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
    """Make a ``StoreError`` of what a driver raises beside the errors of its API: it cannot read or write a value."""

    @event.listens_for(engine, "handle_error")
    def _translate(context: ExceptionContext) -> None:
        error = context.original_exception
        if not isinstance(context.sqlalchemy_exception, exc.DBAPIError) and isinstance(error, _BY_VALUE):
            raise StoreError(f"database {place(engine)}: {_first_line(error)}", transient=False) from error


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction; committed at the end. Raises ``StoreError``."""
    with _translated(engine), engine.begin() as connection:
        yield connection


@contextmanager
def rolled_back(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write, and is rolled back at the end. Raises ``StoreError``."""
    with _translated(engine), engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that changes nothing, and that waits for no writer. Raises ``StoreError``."""
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
        raise StoreError(f"database {place(engine)}: {_first_line(error)}", transient=False) from error


def is_transient(error: exc.DBAPIError) -> bool:
    """Whether the same statement may succeed later."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_TRANSIENT)
    if error.connection_invalidated or isinstance(error, exc.InterfaceError):
        return True
    return isinstance(error, exc.OperationalError) and "no such" not in str(error.orig)


def describe(error: exc.DBAPIError, engine: Engine) -> str:
    """One line: which database, what it said, and what to do where that is known."""
    said = _first_line(error.orig or error)
    advice = _advice(getattr(error.orig, "sqlstate", None), said)
    return f"database {place(engine)}: {said}{advice and f'; {advice}'}"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


UNPREPARED = (
    "a pooler gives each transaction another session: put prepare_threshold=none into MAILBATCH_DATABASE_URL "
    "(postgresql://…?prepare_threshold=none)"
)
"""What to do where prepared statements fail."""
_MIGRATE = "run `mailbatch migrate`"
_READ_ONLY_SERVER = "it takes no writes: MAILBATCH_DATABASE_URL must lead to the primary, not to a standby"
_TAKEN = (
    "something that is not mailbatch's bears this name: rename it, or keep mailbatch's tables apart "
    "(MAILBATCH_DATABASE_SCHEMA, or a database of their own)"
)
_ADVICE_BY_STATE = {
    "26000": UNPREPARED,  # prepared statement … does not exist
    "42P05": UNPREPARED,  # prepared statement … already exists
    "42P01": _MIGRATE,  # undefined table
    "42P07": _TAKEN,  # table or index … already exists
    "55P03": "something else uses the table for long: stop it, or try again later",  # lock timeout
    "42501": "`mailbatch grants` prints what each role needs",
    "3F000": "the role's search_path names no schema that exists: set MAILBATCH_DATABASE_SCHEMA",
    "25006": _READ_ONLY_SERVER,
}
_ADVICE_BY_TEXT = {
    "during recovery": _READ_ONLY_SERVER,
    "no such table": _MIGRATE,
    "transaction blocks not allowed in statement pooling mode": (
        "mailbatch needs transactions: set pool_mode = transaction or session for this database in PgBouncer"
    ),
    "unsupported startup parameter": (
        "remove it from MAILBATCH_DATABASE_URL and PGOPTIONS, or add it to ignore_startup_parameters in PgBouncer"
    ),
    "prepared statement": UNPREPARED,
    "bind message": UNPREPARED,
    "already exists": _TAKEN,
}
"""SQLite and poolers have no codes of their own, and speak English only."""


def _advice(state: str | None, said: str) -> str:
    by_text = (advice for text, advice in _ADVICE_BY_TEXT.items() if text in said)
    return _ADVICE_BY_STATE.get(state or "") or next(by_text, "")


@contextmanager
def on_their_connection(engine: Engine) -> Iterator[None]:
    """Explain in one ``StoreError`` what the connection of an application cannot carry; all else comes out as it is."""
    try:
        yield
    except UnicodeError as error:
        raise StoreError(_NOT_CARRIED.format(place(engine), _first_line(error)), transient=False) from error
    except exc.DBAPIError as error:
        # Psycopg 2 calls it pgcode.
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        if state not in _UNTRANSLATABLE:
            raise
        said = _first_line(error.orig or error)
        raise StoreError(_NOT_CARRIED.format(place(engine), said), transient=False) from error


_UNTRANSLATABLE = {"22P05", "22021"}
_NOT_CARRIED = (
    "database {}: this connection's encoding cannot carry the mail ({}); connect with client_encoding=utf8 to a "
    "database in UTF8"
)


def qualified(connection: Connection, table: sa.FromClause) -> str:
    """The name of ``table`` as SQL spells it, with its schema if one is set for ``connection``."""
    preparer = connection.dialect.identifier_preparer
    return preparer.format_table(sa.table(str(table.description), schema=schema_of(connection)))


def place(engine: Engine) -> str:
    """Where the tables are, without who asks: the path of an SQLite file, else host, port, database and schema."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        from pathlib import Path

        return str(Path(url.database or "").resolve())
    where = url.host or url.query.get("host") or "localhost"
    schema = schema_of(engine)
    inside = "" if schema is None else f", schema {schema}"
    return f"{url.get_backend_name()}://{where}:{url.port or 5432}/{url.database or ''}{inside}"
