"""Sets the parameters of each PostgreSQL session on which our statements depend, whatever the defaults are.

A pooler in transaction mode may give each transaction another session. It restores only those parameters of a client
that the server reports and the pooler tracks (PgBouncer's manual, ``ignore_startup_parameters``). These are SET once
for a connection. All others are set by SET LOCAL in each transaction, and only if the defaults of the role or the
database make it necessary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mailbatch.domain.errors import StoreError

if TYPE_CHECKING:
    import psycopg

SHORTEST = 30
"""Seconds. Limits of the role on a statement, a lock or an idle transaction that are shorter are raised to this."""
_TRACKED = {"DateStyle": "ISO, MDY", "TimeZone": "UTC", "standard_conforming_strings": "on"}
_ENCODING = "UTF8"
_LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
# transaction_timeout is new in 17. An interval reads "100ms" as "2min" or "1d"; 0 is no limit.
_SECONDS = ", ".join(f"extract(epoch FROM current_setting('{name}', true)::interval)::float8" for name in _LIMITS)
_LOOK = (
    "SELECT current_setting('synchronous_commit'), current_setting('jit', true), "
    f"current_setting('quote_all_identifiers'), {_SECONDS}"
)
_NO_JIT = "SET LOCAL jit = off"
"""For transactions that only read: compiling their statements takes longer (0.7 s) than running them."""
WITHOUT_LIMITS = (
    "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN "
    "('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
"""For a migration, whose transaction may take any time."""


class Beginning(NamedTuple):
    """The SQL with which a transaction has to begin, for one that writes and one that only reads; None for nothing."""

    writing: str | None
    reading: str | None


def settle_in(raw: psycopg.Connection[Any], place: str) -> Beginning:
    """Set the tracked parameters of ``raw``; return the SQL with which each transaction has to begin.

    Raises ``StoreError`` if the encoding of the database at ``place`` is not UTF-8. If it raises, ``raw`` is closed.
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


def _local(synchronous_commit: str, jit: str | None, quote_all: str, *limits: float | None) -> Beginning:
    """Return the SET LOCAL statements for defaults that are too short, unsafe, slow, or unknown to SQLAlchemy."""
    found = zip(_LIMITS, limits, strict=True)
    short = [f"SET LOCAL {name} = '{SHORTEST}s'" for name, seconds in found if seconds and seconds < SHORTEST]
    # With "off" a crash of the server loses commits: mails that were sent would be sent again.
    durable = ["SET LOCAL synchronous_commit = on"] if synchronous_commit == "off" else []
    # With "on" SQLAlchemy does not recognize the types of columns, and warns of each.
    plain = ["SET LOCAL quote_all_identifiers = off"] if quote_all == "on" else []
    quick = [_NO_JIT] if jit == "on" else []
    both = short + durable + plain
    return Beginning("; ".join(both) or None, "; ".join(both + quick) or None)
