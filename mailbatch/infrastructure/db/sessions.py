"""What each session on PostgreSQL is set to, whatever the defaults of its role and its database are.

A pooler in transaction mode gives each transaction another session. It keeps what a client has set only of those four
parameters that the server reports and the pooler tracks (PgBouncer's manual, ``ignore_startup_parameters``): these are
SET once. All else is said in each BEGIN or by SET LOCAL, and that only where the defaults make it necessary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mailbatch.domain.errors import StoreError

if TYPE_CHECKING:
    import psycopg

SHORTEST = 30
"""Seconds that a statement, a lock or an idle transaction may take at least, whatever the role's limits are."""
_TRACKED = {"DateStyle": "ISO, MDY", "TimeZone": "UTC", "standard_conforming_strings": "on"}
_ENCODING = "UTF8"
_LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
# transaction_timeout is new in 17. An interval reads "100ms" as "2min" or "1d"; 0 is no limit.
_SECONDS = ", ".join(f"extract(epoch FROM current_setting('{name}', true)::interval)::float8" for name in _LIMITS)
_LOOK = f"SELECT current_setting('synchronous_commit'), current_setting('jit', true), {_SECONDS}"
_NO_JIT = "SET LOCAL jit = off"
"""For what only reads: to compile such a statement takes longer (0.7 s) than to run it."""
WITHOUT_LIMITS = (
    "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN "
    "('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
"""For one transaction that may take as long as it does: a migration."""


class Beginning(NamedTuple):
    """What a transaction has to begin with, as SQL; None for nothing."""

    writing: str | None
    reading: str | None


def settle_in(raw: psycopg.Connection[Any], place: str) -> Beginning:
    """Set what outlives a transaction; return what each transaction has to begin with.

    Closes ``raw`` and raises ``StoreError`` if the database at ``place`` cannot hold every text.
    """
    try:
        _ensure_encoding(raw, place)
        raw.autocommit = True
        if wrong := [name for name, value in _TRACKED.items() if raw.info.parameter_status(name) != value]:
            raw.execute("; ".join(f"SET {name} = '{_TRACKED[name]}'" for name in wrong))
        local = _local(*(raw.execute(_LOOK).fetchone() or ()))
        raw.autocommit = False
    except BaseException:
        raw.close()
        raise
    return local


def _ensure_encoding(raw: psycopg.Connection[Any], place: str) -> None:
    encoding = raw.info.parameter_status("server_encoding")
    if encoding != _ENCODING:
        raise StoreError(
            f"database {place}: its encoding is {encoding}, and mailbatch needs {_ENCODING}: make another one by "
            f"CREATE DATABASE … ENCODING '{_ENCODING}' TEMPLATE template0, and move the data with pg_dump",
            transient=False,
        )


def _local(synchronous_commit: str, jit: str | None, *limits: float | None) -> Beginning:
    """The defaults that break a promise, or make somebody wait, put right for one transaction."""
    found = zip(_LIMITS, limits, strict=True)
    short = [f"SET LOCAL {name} = '{SHORTEST}s'" for name, seconds in found if seconds and seconds < SHORTEST]
    # Off: a crash of the server forgets commits, and with them what was sent.
    durable = ["SET LOCAL synchronous_commit = on"] if synchronous_commit == "off" else []
    quick = [_NO_JIT] if jit == "on" else []
    return Beginning("; ".join(short + durable) or None, "; ".join(short + durable + quick) or None)
