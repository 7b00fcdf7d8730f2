"""Reads the parameters of a database URL: each has a known name and a type, or is refused in one line.

They have three users: SQLAlchemy's pool, the driver (psycopg, sqlite3), and libpq or SQLite itself.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from mailbatch.domain.redaction.urls import shown_name

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters by their user: SQLAlchemy's pool (``engine``), each connection, or SQLAlchemy's URL (``url``)."""

    engine: dict[str, Any] = field(default_factory=dict)
    connection: dict[str, Any] = field(default_factory=dict)
    url: dict[str, str | tuple[str, ...]] = field(default_factory=dict)


def read_parameters(text: str) -> Parameters:
    """Read the query of ``text``, an SQLAlchemy URL of PostgreSQL or SQLite.

    Raises:
        ValueError: for a parameter that is unknown, of another type, given twice, or that mailbatch sets itself. The
            text names the parameter and never its value.
    """
    sqlite = text.startswith("sqlite")
    found = Parameters()
    given: dict[str, list[str]] = {}
    query = text.partition("?")[2]
    for name, value in parse_qsl(query):
        given.setdefault(name, []).append(value)
    for name, values in given.items():
        if name in _REPEATED and not sqlite:
            # SQLAlchemy reads hosts, as text or as lists.
            found.url[name] = tuple(values) if len(values) > 1 else values[0]
            continue
        read = _reader(name, query, sqlite=sqlite)
        if len(values) > 1:
            raise ValueError(f"{name} is given more than once")
        try:
            value = read(values[0])
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
        if name in _OF_POOL:
            found.engine[name] = value
        elif sqlite:
            found.url[name] = values[0]
        else:
            found.connection[name] = value
    if sqlite and "uri" not in found.url and (of_uri := sorted(_OF_URI & found.url.keys())):
        raise ValueError(f"{of_uri[0]} needs a file named by URI: sqlite:///file:/path?uri=true&{of_uri[0]}=…")
    return found


def _reader(name: str, query: str, *, sqlite: bool) -> Callable[[str], Any]:
    if name in _SET_BY_US:
        raise ValueError(f"{name} cannot be set: {_SET_BY_US[name]}")
    known = _OF_POOL | (_OF_SQLITE if sqlite else _OF_POSTGRESQL)
    if name not in known and not sqlite:
        known |= _of_libpq()
    if name not in known:
        if shown_name(query, name) != name:
            raise ValueError("has a password that is not percent-encoded: write & as %26, # as %23, @ as %40")
        raise ValueError(f"{name} is no parameter of {'SQLite' if sqlite else 'PostgreSQL'}{_meant(name, known)}")
    return known[name]


def _text(value: str) -> str:
    return value


def _integer(least: int, most: float = math.inf) -> Callable[[str], int]:
    def read(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ValueError(f"must be an integer from {least}{f' to {most:g}' if most < math.inf else ' on'}")
        return number

    return read


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ValueError("must be seconds above 0")
    return seconds


def _flag(value: str) -> bool:
    match value.lower():
        case "true" | "yes" | "on" | "1":
            return True
        case "false" | "no" | "off" | "0":
            return False
    raise ValueError("must be true or false")


def _threshold(value: str) -> int | None:
    """Return how often a statement runs before psycopg prepares it; None: it prepares none."""
    if value.lower() in {"none", "null", ""}:
        return None
    try:
        return _integer(0)(value)
    except ValueError:
        raise ValueError(
            "must be none (for a pooler: prepare no statement), or after how many uses to prepare"
        ) from None


def _unless(refused: bool) -> Callable[[str], bool]:  # noqa: FBT001 - the value that is refused
    def read(value: str) -> bool:
        if _flag(value) is refused:
            raise ValueError(f"must be {str(not refused).lower()}")
        return not refused

    return read


def _utf8(value: str) -> str:
    if value.lower().replace("-", "") not in {"utf8", "unicode"}:
        raise ValueError("must be utf8: mails are in every script")
    return "utf8"


_OF_POOL: dict[str, Callable[[str], Any]] = {
    "pool_size": _integer(0),
    "max_overflow": _integer(-1),
    "pool_timeout": _seconds,
    "pool_recycle": _integer(-1),
    "pool_pre_ping": _flag,
    "pool_use_lifo": _flag,
}
"""SQLAlchemy's ``create_engine``, section "Engine Creation API"."""
_OF_POSTGRESQL: dict[str, Callable[[str], Any]] = {"prepare_threshold": _threshold}
_OF_SQLITE: dict[str, Callable[[str], Any]] = {
    "timeout": _seconds,
    "cached_statements": _integer(0),
    "check_same_thread": _unless(refused=True),
    "uri": _flag,
    # https://sqlite.org/uri.html: with uri=true
    "mode": _text,
    "cache": _text,
    "immutable": _flag,
    "nolock": _flag,
    "psow": _flag,
    "vfs": _text,
}
_OF_URI = {"mode", "cache", "immutable", "nolock", "psow", "vfs"}
_NUMBERS: dict[str, Callable[[str], Any]] = {
    "connect_timeout": _integer(0),
    "keepalives": _integer(0, 1),
    "keepalives_idle": _integer(0),
    "keepalives_interval": _integer(0),
    "keepalives_count": _integer(0),
    "tcp_user_timeout": _integer(0),
    "client_encoding": _utf8,
}
_REPEATED = {"host", "port"}
_SET_BY_US = {
    "autocommit": "mailbatch begins and ends its transactions itself",
    "isolation_level": "mailbatch begins and ends its transactions itself",
    "replication": "a replication connection runs no mailbatch",
    "row_factory": "mailbatch reads rows in its own form",
    "cursor_factory": "mailbatch reads rows in its own form",
    "detect_types": "mailbatch reads times in its own form",
}
_ELSEWHERE = {
    "pgbouncer": "prepare_threshold=none",
    "statement_cache_size": "prepare_threshold=none",
    "prepared_statement_cache_size": "prepare_threshold=none",
    "prepared_statements": "prepare_threshold=none",
    "preparethreshold": "prepare_threshold=none",
    "poolclass": "pool_size and max_overflow",
    "connection_limit": "pool_size and max_overflow",
    "conn_max_age": "pool_recycle",
    "ssl": "sslmode=require",
    "tls": "sslmode=require",
    "sslnegotation": "sslnegotiation",
    "currentschema": "MAILBATCH_DATABASE_SCHEMA",
    "schema": "MAILBATCH_DATABASE_SCHEMA",
    "search_path": "MAILBATCH_DATABASE_SCHEMA",
    "application-name": "application_name",
    "charset": "client_encoding=utf8",
    "encoding": "client_encoding=utf8",
    "busy_timeout": "timeout (seconds)",
}
"""Our name for a parameter, by the names that other drivers and frameworks give it."""


@cache
def _of_libpq() -> dict[str, Callable[[str], Any]]:
    """Return the parameters that the installed libpq knows; none without psycopg."""
    try:
        from psycopg.pq import Conninfo
    except ImportError:
        return {}
    names = [option.keyword.decode() for option in Conninfo.get_defaults()]
    return {name: _NUMBERS.get(name, _text) for name in names}


def _meant(name: str, known: dict[str, Any]) -> str:
    if said := _ELSEWHERE.get(name.lower()):
        return f"; mailbatch calls it {said}"
    if near := difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.75):
        return f"; did you mean {near[0]}?"
    return "; see docs/reference/settings.md for those that there are"
