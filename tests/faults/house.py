"""The house under attack: a real worker on a real database and Redis, before a relay that records and fails."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, Signals
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa
from support.postgres import PostgresServer
from support.relay import Relay
from support.stack import Stack
from support.waiting import wait_until

from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.tables import batch_runs, mail_attempts, mail_reservations
from mailbatch.infrastructure.redis import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from sqlalchemy.engine import Connection, Engine
    from support.processes import ManagedProcess

    from mailbatch.infrastructure.redis.embedded import EmbeddedRedis

INTERVAL, LOCK_TTL, LEASE = 2, 2, 3
"""Seconds; recovery takes at most their sum."""
CONNECTIONS, WINDOW = 2, 4
PATIENCE = 6
"""Starts of the worker in one fault, after which the worker itself is broken."""
SETTINGS: Mapping[str, object] = {
    "SCHEDULE": INTERVAL,
    "LOCK_TTL": LOCK_TTL,
    "LEASE": LEASE,
    "CONNECTIONS": CONNECTIONS,
    "WINDOW": WINDOW,
    "MAX_ATTEMPTS": 10,
    "RETRY_BACKOFF": 0.2,
    "RETRY_BACKOFF_MAX": 1,
}
CLAIM, SETTLE, SETTLED = 1, 2, 3
"""Latches; see ``House.latch``."""
_LATCHES = f"""
CREATE OR REPLACE FUNCTION fault_latch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(TG_ARGV[0]::bigint); RETURN NULL; END $$;
DROP TRIGGER IF EXISTS fault_claim ON mail_reservations;
CREATE CONSTRAINT TRIGGER fault_claim AFTER UPDATE ON mail_reservations DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.status = 'sending' AND OLD.status = 'pending') EXECUTE FUNCTION fault_latch({CLAIM});
CREATE OR REPLACE TRIGGER fault_settle AFTER UPDATE ON mail_reservations FOR EACH ROW
    WHEN (OLD.status = 'sending' AND NEW.status = 'sent') EXECUTE FUNCTION fault_latch({SETTLE});
DROP TRIGGER IF EXISTS fault_settled ON mail_reservations;
CREATE CONSTRAINT TRIGGER fault_settled AFTER UPDATE ON mail_reservations DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.status = 'sending' AND NEW.status = 'sent') EXECUTE FUNCTION fault_latch({SETTLED});
"""
_MIGRATING = threading.Lock()
"""Alembic migrates one database of a process at a time."""
ENDED = {"sent", "failed", "in_doubt", "cancelled", "expired"}
_r = mail_reservations.c


@dataclass
class House:
    """One database, one Redis, one relay, and one worker with beat that is started again whenever it has ended."""

    stack: Stack
    relay: Relay
    redis: EmbeddedRedis
    postgres: PostgresServer | None
    worker: ManagedProcess | None = None
    settings: dict[str, object] = field(default_factory=dict)
    restarts: int = 0
    known: set[str] = field(default_factory=set)
    _engine: Engine | None = None
    _latch: psycopg.Connection[Any] | None = None
    _has_latches: bool = False

    # --- the worker, and who looks after it ---

    def settle_in(self, settings: Mapping[str, object]) -> None:
        """See that a worker runs under ``settings``, which go over those of every house."""
        self.restarts = 0
        wanted = {**SETTINGS, **settings}
        if self.worker is not None and self.worker.running and wanted == self.settings:
            return
        if self.worker is not None:
            self.worker.close()
        self.settings = wanted
        self.stack.settings = dict(wanted)
        self.stack.smtp_url = f"{self.relay.url}?starttls=off&timeout=2&data_timeout=3"
        self.worker = self._start()

    def supervise(self) -> None:
        """Start the worker again if it has ended, as systemd would."""
        if self.worker is not None and not self.worker.running:
            self.restarts += 1
            assert self.restarts <= PATIENCE, f"the worker does not stay up; it says:\n{self.log()[-3000:]}"
            self.worker.close()
            self.worker = self._start()

    def kill(self, target: str, signal: Signals = SIGKILL) -> None:
        """End one of ``child`` (which sends), ``worker`` (its parent), ``beat`` or ``group`` (all of them)."""
        assert self.worker is not None
        if target == "group":
            self.worker.kill_group(signal)
        else:
            os.kill(self.pid_of(target), signal)

    def pid_of(self, target: str) -> int:
        """The process id of ``child``, ``beat`` or ``worker``."""
        assert self.worker is not None
        if target == "worker":
            return self.worker.pid
        if target == "child":
            return self.sender()
        self.worker.wait_for_log("embedded beat is process")
        return int(re.findall(r"embedded beat is process (\d+)", self.log())[-1])

    def sender(self) -> int:
        """The process that drives the newest run."""
        runs = batch_runs.c
        with self.database() as connection:
            statement = sa.select(runs.pid).order_by(runs.started_at.desc()).limit(1)
            return int(connection.execute(statement).scalar_one())

    def _start(self) -> ManagedProcess:
        return self.stack.worker("-B", "-c", "2", "-n", "house@%h", "--loglevel=INFO", ready=False)

    # --- the database ---

    @contextmanager
    def database(self) -> Iterator[Connection]:
        """A transaction of our own."""
        self._engine = self._engine or connect(self.stack.database_url)
        with self._engine.begin() as connection:
            yield connection

    def reserve(self, name: str, count: int, *, start: int = 0, **columns: Any) -> dict[UUID, str]:
        """``count`` mails that are due, each to an address of its own under ``name``; answer ids and addresses."""
        rows = [
            {
                "recipients": f"{name}-{i}@faults.example",
                "subject": f"{name} {i}",
                "body_text": f"This is {name} {i}.",
                "tag": name,
                **{key: value(i) if callable(value) else value for key, value in columns.items()},
            }
            for i in range(start, start + count)
        ]
        self.known.update(to for row in rows for to in row["recipients"].split(", "))
        statement = sa.insert(mail_reservations).returning(_r.id, _r.recipients)
        with self.database() as connection:
            return {row.id: row.recipients for row in connection.execute(statement, rows)}

    def states(self, name: str) -> dict[str, int]:
        """How many mails under ``name`` stand in each state."""
        statement = sa.select(_r.status, sa.func.count()).where(_r.tag == name).group_by(_r.status)
        with self.database() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def rows(self, name: str) -> list[Any]:
        """Recipients, state and id of the mails under ``name``."""
        statement = sa.select(_r.id, _r.recipients, _r.status, _r.message_id, _r.attempts).where(_r.tag == name)
        with self.database() as connection:
            return list(connection.execute(statement))

    def doubts(self, name: str) -> dict[UUID, int]:
        """How many attempts of each mail under ``name`` ended without verdict."""
        attempts = mail_attempts.c
        statement = (
            sa.select(attempts.reservation_id, sa.func.count())
            .join(mail_reservations, _r.id == attempts.reservation_id)
            .where(_r.tag == name, attempts.outcome == "in_doubt")
            .group_by(attempts.reservation_id)
        )
        with self.database() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def execute(self, *statements: str) -> None:
        """SQL of our own on PostgreSQL, each by itself, whatever the database has come to refuse meanwhile."""
        with self._plain() as connection:
            for statement in statements:
                connection.execute(statement)

    def _plain(self) -> psycopg.Connection[Any]:
        url = self.stack.database_url.replace("+psycopg", "")
        options = "-c default_transaction_read_only=off -c statement_timeout=0"
        return psycopg.connect(url, autocommit=True, options=options, application_name="faults")

    # --- the latches: where PostgreSQL stops a statement of the worker's ---

    def latch(self, latch: int) -> None:
        """Stop whoever comes to ``latch`` from now on; the triggers that lead there stay for good.

        ``CLAIM``: the commit of a claim. ``SETTLE``: the statement that writes verdicts. ``SETTLED``: its commit.
        """
        self.unlatch()
        if not self._has_latches:
            self.execute(_LATCHES)
            self._has_latches = True
        self._latch = self._plain()
        self._latch.execute("SELECT pg_advisory_lock(%s)", [latch])

    def unlatch(self) -> None:
        """Let everybody pass: the lock ends with its connection."""
        if self._latch is not None:
            self._latch.close()
            self._latch = None

    def wait_latched(self, timeout: float = 30.0) -> None:
        """Wait until somebody stands before a latch."""
        self.wait(self._waiting_at_latch, timeout, "somebody to come to the latch")

    def _waiting_at_latch(self) -> bool:
        assert self._latch is not None
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        found = self._latch.execute(waiting).fetchone()
        return bool(found and found[0])

    # --- waiting ---

    def wait_taken(self, count: int, timeout: float = 30.0) -> None:
        """Wait until the relay has taken ``count`` mails more than now."""
        wanted = len(self.relay.accepted()) + count
        self.wait(lambda: len(self.relay.accepted()) >= wanted, timeout, "mails to be taken")

    def wait_ended(self, name: str, count: int, timeout: float) -> bool:
        """Whether every mail under ``name`` ended within ``timeout`` seconds; whoever has died is started again."""

        def ended() -> bool:
            self.supervise()
            try:
                found = self.states(name)
            except sa.exc.DBAPIError:
                return False
            return sum(n for state, n in found.items() if state in ENDED) == count

        try:
            return wait_until(ended, timeout, "the end", every=0.1)
        except AssertionError:
            return False

    def wait(self, condition: Any, timeout: float, what: str) -> None:
        """Wait for ``condition`` while whoever dies is started again."""

        def look() -> Any:
            self.supervise()
            return condition()

        wait_until(look, timeout, lambda: f"{what}; the worker says:\n{self.log()[-3000:]}", every=0.05)

    def pass_time(self, seconds: float) -> None:
        """Leave a fault in place for so long: how long it lasts is part of it."""
        until = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= until, seconds + 5, f"{seconds:g} s to pass")

    def log(self) -> str:
        """All that the worker has said since it was last started."""
        return self.worker.log_text() if self.worker is not None else ""

    def close(self) -> None:
        """Leave nothing behind."""
        self.stack.close()
        self.unlatch()
        if self._engine is not None:
            self._engine.dispose()


@contextmanager
def open_house(
    kind: str = "postgresql", *, durable: bool = False, data: Path | None = None, under: tuple[str, ...] = ()
) -> Iterator[House]:
    """A house of its own, with every server private, on ``postgresql`` or ``sqlite``; nothing of it outlives this.

    ``data``: a folder below which the database is, empty. ``under``: words that start the worker, as in ``Stack``.
    """
    with ExitStack() as exits:
        folder = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))
        exits.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = exits.enter_context(PostgresServer(durable=durable, below=data)) if kind == "postgresql" else None
        url = postgres.url(postgres.create_database()) if postgres else f"sqlite:///{(data or folder) / 'faults.db'}"
        with _MIGRATING:
            upgrade(url)
        redis = exits.enter_context(embedded.start(folder / "redis"))
        relay = exits.enter_context(Relay(folder / "relay"))
        stack = Stack(url, redis.url, relay.url, folder / "stack", under=under)
        house = House(stack, relay, redis, postgres)
        exits.callback(house.close)
        yield house
