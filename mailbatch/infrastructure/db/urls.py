"""Reads the URL of a database: an SQLite file, or PostgreSQL over psycopg."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mailbatch.infrastructure.db.url_parameters import Parameters, read_parameters

_OTHER_SQLITES = {"sqlite+aiosqlite", "sqlite+pysqlcipher"}
_HOST = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::([^:]*))?")
_HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """``text`` is what SQLAlchemy takes: an SQLite file, or PostgreSQL over psycopg."""

    text: str = field(repr=False)
    parameters: Parameters


def read_database_url(text: str) -> DatabaseUrl:
    """Read an SQLAlchemy URL of PostgreSQL or of an SQLite file.

    It imports no SQLAlchemy, because every start of Celery calls it.

    Raises:
        ValueError: in one line that never holds the password.
    """
    scheme, colon, rest = text.partition("://")
    backend = scheme.partition("+")[0]
    if not colon or backend not in {"sqlite", "postgresql", "postgres"} or scheme in _OTHER_SQLITES:
        raise ValueError("must be an SQLAlchemy URL: sqlite:///file.db or postgresql://user:pass@host/name")
    if backend == "sqlite":
        _check_file(rest)
    else:
        _check_server(rest)
        text = f"postgresql+psycopg://{rest}"
    return DatabaseUrl(text, read_parameters(text))


def _check_file(rest: str) -> None:
    if rest in {"", "/"} or ":memory:" in rest:
        raise ValueError("must name a file: an SQLite database in memory is not shared with the workers")


def _check_server(rest: str) -> None:
    """Refuse ``rest`` of ``postgresql://`` if a part of the password reads as a host, or if a port is wrong."""
    server, _, _ = rest.partition("?")
    if server.count("@") > 1:
        raise ValueError("has more than one @; write an @ in the user or password as %40")
    for host in server.rpartition("@")[2].partition("/")[0].split(","):
        found = _HOST.fullmatch(host)
        if not found:
            raise ValueError("has a host that cannot be read; write an IPv6 address in brackets: [::1]:5432")
        if found[1] and (not found[1].isdecimal() or int(found[1]) > _HIGHEST_PORT):
            raise ValueError(f"has a port that is no number from 0 to {_HIGHEST_PORT}")
