"""Find out whether a pooler stands between us and PostgreSQL, and whether prepared statements survive it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from mailbatch.infrastructure.db.engine import reading

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

_TOGETHER, _ROUNDS = 2, 12
_FORGOTTEN = (psycopg.errors.DuplicatePreparedStatement, psycopg.errors.InvalidSqlStatementName)


@dataclass(frozen=True, slots=True)
class Pooler:
    """A pooler. ``shares``: two of our connections use the same session (pool_mode = transaction).

    ``forgets``: a statement that a connection has prepared is missing in another session.
    """

    shares: bool
    forgets: bool


def find(engine: Engine) -> Pooler | None:
    """Return the pooler between us and the database of ``engine``; None if there is none. Raises ``StoreError``.

    It opens two connections at once. If the pool of ``engine`` may have only one, it returns None without a test.
    """
    pool: Any = engine.pool
    if 0 < pool.size() < _TOGETHER and -1 < pool._max_overflow < _TOGETHER - pool.size():  # noqa: SLF001 - no other way
        return None
    with ExitStack() as opened:
        ours: list[Any] = [opened.enter_context(reading(engine)).connection.driver_connection for _ in range(_TOGETHER)]
        if all(raw.info.backend_pid == _session(raw) for raw in ours):
            return None
        met: list[set[int]] = [set() for _ in ours]
        try:
            for _ in range(_ROUNDS):
                for raw, sessions in zip(ours, met, strict=True):
                    sessions.add(_session(raw, prepare=raw.prepare_threshold is not None))
        except _FORGOTTEN:
            return Pooler(shares=True, forgets=True)
        return Pooler(shares=bool(met[0] & met[1]) or any(len(sessions) > 1 for sessions in met), forgets=False)


def _session(raw: psycopg.Connection[Any], *, prepare: bool = False) -> int:
    """Return the id of the server process of this transaction; a pooler told the client another one."""
    with raw.transaction():
        row = raw.execute("SELECT pg_backend_pid()", prepare=prepare).fetchone()
    return int(row[0]) if row else 0
