"""Errors of a driver in one line: what the database said, whether it may pass, and what to do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import exc

from mailbatch.domain.errors import StoreError
from mailbatch.infrastructure.db.location import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

# SQLSTATE classes after which the same statement may succeed: connection, rollback, resources, lock, operator, system,
# read-only (a standby that is being promoted).
# 0A000: a standby refuses BEGIN READ WRITE, and a prepared statement whose table was migrated is prepared anew.
_TRANSIENT = ("08", "40", "53", "55", "57", "58", "0A000", "25006", "XX000")


def is_transient(error: exc.DBAPIError) -> bool:
    """Return whether the same statement may succeed later."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_TRANSIENT)
    if error.connection_invalidated or isinstance(error, exc.InterfaceError):
        return True
    return isinstance(error, exc.OperationalError) and "no such" not in str(error.orig)


def describe(error: exc.DBAPIError, engine: Engine) -> str:
    """Return one line: which database, what it said, and, if that is known, what to do."""
    said = first_line(error.orig or error)
    advice = _advice(getattr(error.orig, "sqlstate", None), said)
    return f"database {place(engine)}: {said}{advice and f'; {advice}'}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error that is not empty, or else the name of its class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


UNPREPARED = (
    "a pooler gives each transaction another session: put prepare_threshold=none into MAILBATCH_DATABASE_URL "
    "(postgresql://…?prepare_threshold=none)"
)
"""What to do where prepared statements fail."""
_MIGRATE = "run `mailbatch migrate`"
_READ_ONLY_SERVER = "it takes no writes: MAILBATCH_DATABASE_URL must lead to the primary, not to a standby"
_TAKEN = (
    "something that is not mailbatch's has this name: rename it, or keep mailbatch's tables apart "
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
"""For SQLite and poolers, which have no codes and write only English."""


def _advice(state: str | None, said: str) -> str:
    by_text = (advice for text, advice in _ADVICE_BY_TEXT.items() if text in said)
    return _ADVICE_BY_STATE.get(state or "") or next(by_text, "")


@contextmanager
def on_their_connection(engine: Engine) -> Iterator[None]:
    """Raise ``StoreError`` if the connection of an application cannot carry a text; other errors stay as they are."""
    try:
        yield
    except UnicodeError as error:
        raise StoreError(_NOT_CARRIED.format(place(engine), first_line(error)), transient=False) from error
    except exc.DBAPIError as error:
        # Psycopg 2 calls it pgcode.
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        if state not in _UNTRANSLATABLE:
            raise
        said = first_line(error.orig or error)
        raise StoreError(_NOT_CARRIED.format(place(engine), said), transient=False) from error


_UNTRANSLATABLE = {"22P05", "22021"}
_NOT_CARRIED = (
    "database {}: this connection's encoding cannot carry the mail ({}); connect with client_encoding=utf8 to a "
    "database in UTF8"
)
