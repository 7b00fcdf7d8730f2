"""A private PgBouncer before a private PostgreSQL, as our child, over a Unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg
from support.postgres import ROLE
from support.waiting import wait_until

from mailbatch.infrastructure.redis.parent_death import ending_with_parent

if TYPE_CHECKING:
    from types import TracebackType

    from support.postgres import PostgresServer

_PORT = 6432


def find_binary() -> str | None:
    """Return PgBouncer's path, if it is installed; Debian puts it in a folder that is on root's PATH only."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class PgBouncer:
    """A PgBouncer in ``mode`` (``transaction``, ``session``, ``statement``); it changes sessions as often as it can."""

    def __init__(self, server: PostgresServer, mode: str, *, size: int = 3) -> None:
        self._server = server
        self._options = {
            "pool_mode": mode,
            "default_pool_size": str(size),
            # Else the session that was used last is used again, and what breaks by a change would pass.
            "server_round_robin": "1",
            "auth_type": "any",
            "listen_port": str(_PORT),
        }
        self._folder = Path(tempfile.mkdtemp(prefix="bouncer-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        user = self._server.user
        if user:
            shutil.chown(self._folder, user)
        options = {**self._options, "unix_socket_dir": str(self._folder), "logfile": str(self._folder / "log")}
        config = self._folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host={self._server.folder} user={ROLE}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in options.items())
        )
        binary = find_binary()
        assert binary, "PgBouncer is not installed"
        self._process = subprocess.Popen(
            ending_with_parent([binary, str(config)], at_parents_end=signal.SIGKILL, user=user),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(self._answers, 20, "PgBouncer answers")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str, query: str = "") -> str:
        """Return an SQLAlchemy URL of ``database`` through it."""
        return f"postgresql+psycopg://{ROLE}@:{_PORT}/{database}?host={self._folder}{query and f'&{query}'}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(host=str(self._folder), port=_PORT, user=ROLE, dbname="postgres", autocommit=True).close()
        except psycopg.OperationalError:
            return False
        return True
