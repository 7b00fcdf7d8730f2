"""The test bed: a private PostgreSQL and Redis, the sinks, and filled databases. All are removed at the end."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import sqlalchemy as sa

from bench import corpus
from bench.sinks import OwnSink, PostfixSink, has_postfix
from mailbatch import config
from mailbatch.bootstrap import Parts
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.redis import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from support.postgres import PostgresServer

    from mailbatch.infrastructure.redis.embedded import EmbeddedRedis

ROOT = Path(__file__).parents[1]
# The tests' harness starts real servers and always ends them.
sys.path.insert(0, str(ROOT / "tests"))

# As durable as any server. Only the sizes that the harness keeps small for tests are raised to those of a small server.
_POSTGRES = {"shared_buffers": "'512MB'", "max_wal_size": "'4GB'", "checkpoint_timeout": "'15min'"}


@dataclass
class Bed:
    """Starts each part when it is first used. Use it as ``with Bed() as bed``."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp")))
    _exits: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self._exits.callback(shutil.rmtree, self.folder, ignore_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exits.close()

    @cached_property
    def postgres(self) -> PostgresServer:
        """A private PostgreSQL that syncs every commit."""
        from support.postgres import PostgresServer

        server = self._exits.enter_context(PostgresServer(durable=True))
        with _plain(server.url()) as connection:
            for name, value in _POSTGRES.items():
                connection.execute(f"ALTER SYSTEM SET {name} = {value}")
        server.restart()
        return server

    @property
    def postgres_pid(self) -> int:
        """The server's first process."""
        process = self.postgres.process
        assert process is not None
        return process.pid

    @cached_property
    def redis(self) -> EmbeddedRedis:
        """A private Redis."""
        return self._exits.enter_context(embedded.start(self.folder / "redis", append_only=False))

    @cached_property
    def sink(self) -> OwnSink:
        """Our own sink."""
        return self._exits.enter_context(OwnSink())

    @cached_property
    def postfix_sink(self) -> PostfixSink | None:
        """Postfix's sink, if it is installed."""
        return self._exits.enter_context(PostfixSink()) if has_postfix() else None

    @cached_property
    def _migrated(self) -> str:
        name = self.postgres.create_database()
        upgrade(self.postgres.url(name))
        self.postgres.freeze_template(name)
        return name

    @contextmanager
    def database(self, mails: int = 0, *, future: int = 0) -> Iterator[str]:
        """Return the URL of a new PostgreSQL database with ``mails`` due mails and ``future`` mails for next week."""
        name = self.postgres.create_database(self._migrated)
        url = self.postgres.url(name)
        try:
            reserve(url, mails, future=future)
            yield url
        finally:
            self.postgres.drop_database(name)

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """Return the URL of a new PostgreSQL database without tables, for peers."""
        name = self.postgres.create_database()
        try:
            yield self.postgres.url(name)
        finally:
            self.postgres.drop_database(name)

    @contextmanager
    def sqlite(self, mails: int = 0) -> Iterator[str]:
        """Return the URL of a new SQLite database with ``mails`` due mails."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        url = f"sqlite:///{folder / 'bench.db'}"
        upgrade(url)
        reserve(url, mails)
        yield url
        shutil.rmtree(folder)

    @contextmanager
    def parts(self, database_url: str, **settings: Any) -> Iterator[Parts]:
        """Build mailbatch's own parts in this process."""
        parts = Parts(config.Settings(**(self.settings(database_url) | settings)))
        try:
            yield parts
        finally:
            parts.close()

    def settings(self, database_url: str) -> dict[str, Any]:
        """Return the settings that all measurements of mailbatch share."""
        return {
            "database_url": database_url,
            "redis_url": self.redis.url,
            "smtp_url": self.sink.url,
            "sender": corpus.SENDER,
            "template_dir": corpus.FOLDER,
        }


def reserve(url: str, mails: int, *, future: int = 0) -> None:
    """Store ``mails`` due reservations and ``future`` later ones, then clean up the database."""
    fill = _insert if url.startswith("sqlite") else _copy
    if mails:
        fill(url, mails, "-1 minute")
    if future:
        fill(url, future, "+7 days")
    if not url.startswith("sqlite"):
        settle_down(url)


def settle_down(url: str) -> None:
    """Finish PostgreSQL's background work that the filling caused."""
    with _plain(url) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def _copy(url: str, count: int, when: str) -> None:
    with _plain(url) as connection:
        row = connection.execute("SELECT date_trunc('milliseconds', now() + %s::interval)::text", [when]).fetchone()
        columns = "recipients, template, context, scheduled_at"
        assert row is not None
        with connection.cursor() as cursor, cursor.copy(f"COPY mail_reservations ({columns}) FROM STDIN") as copy:
            for to, context in corpus.contexts(count):
                copy.write_row((to, corpus.TEMPLATE, json.dumps(context), row[0]))


def _insert(url: str, count: int, _when: str) -> None:
    engine = connect(url)
    rows = [{"recipients": to, "template": corpus.TEMPLATE, "context": c} for to, c in corpus.contexts(count)]
    with engine.begin() as connection:
        connection.execute(sa.insert(mail_reservations), rows)
    engine.dispose()


def _plain(url: str) -> psycopg.Connection[Any]:
    """Open a connection without SQLAlchemy, in autocommit mode."""
    return psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True)


def postgres_version(bed: Bed) -> str:
    """Return the server's version."""
    with _plain(bed.postgres.url()) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]) if row else "?"
