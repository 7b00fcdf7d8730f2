"""Connections to the database, and its errors in our words."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import make_url

from mailbatch.domain.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

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

_READ_ONLY = "mailbatch_read_only"
# SQLSTATE classes after which the same statement may succeed: connection, rollback, resources, lock, operator, system,
# read-only (a standby that is being promoted).
_TRANSIENT = ("08", "40", "53", "55", "57", "58", "25006", "XX000")


def connect(url: str, schema: str | None = None) -> Engine:
    """An engine for ``url``; nothing is opened before it is used. Every forked process makes its own.

    With ``schema`` each statement names our tables in that schema of PostgreSQL, whatever the search_path is.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(url)
    ours = {name: value for name, value in _KEEPALIVE.items() if name not in parsed.query}
    try:
        return sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_size=5,
            json_deserializer=read_json,
            # An error that breaks a job is written into reports and logs: it must not repeat a mail.
            hide_parameters=True,
            execution_options=in_schema(schema),
            connect_args={**ours, "application_name": "mailbatch"},
        )
    except ModuleNotFoundError as error:
        raise StoreError(
            f"PostgreSQL needs the driver {error.name}: pip install 'mailbatch[postgres]'", transient=False
        ) from error


def in_schema(schema: str | None) -> dict[str, Any]:
    """The execution options by which statements name our tables in ``schema``; none for None."""
    return {} if schema is None else {"schema_translate_map": {None: schema}}


def schema_of(place: Engine | Connection) -> str | None:
    """The schema in which statements name our tables; None where the connection's own search path decides."""
    found: str | None = (place.get_execution_options().get("schema_translate_map") or {}).get(None)
    return found


def _sqlite(url: str) -> Engine:
    engine = sa.create_engine(
        url, json_deserializer=read_json, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT}
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

    return engine


def read_json(text: str | bytes) -> Any:
    """Read a JSON column; what Python cannot read (5,000 digits, 2,000 levels) comes back as the text that it is.

    A row may come from any language. It must not keep the rows that are read with it from being sent.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text if isinstance(text, str) else text.decode()


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction; committed at the end. Raises ``StoreError``."""
    with _translated(engine), engine.begin() as connection:
        yield connection


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


def is_transient(error: exc.DBAPIError) -> bool:
    """Whether the same statement may succeed later."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_TRANSIENT)
    if error.connection_invalidated or isinstance(error, exc.InterfaceError):
        return True
    return isinstance(error, exc.OperationalError) and "no such" not in str(error.orig)


def describe(error: exc.DBAPIError, engine: Engine) -> str:
    """One line: which database, and what it said."""
    said = next((line.strip() for line in str(error.orig).splitlines() if line.strip()), type(error.orig).__name__)
    missing = "no such table" in said or "UndefinedTable" in type(error.orig).__name__
    advice = "; run `mailbatch migrate`" if missing else ""
    return f"database {place(engine)}: {said}{advice}"


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
