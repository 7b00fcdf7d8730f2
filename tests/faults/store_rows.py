"""What Redis and the database may do wrong in the middle of a run (rows 3 and 4)."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import time
from contextlib import closing
from signal import SIGCONT, SIGSTOP
from typing import TYPE_CHECKING, Any

from faults.fault import Fault
from faults.house import SETTLE
from faults.kill_rows import WAITING, Step, at
from support.waiting import wait_until

from mailbatch.infrastructure.redis.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.house import House

AWAY = 3.0
LONG_LEASE = 8
"""Seconds; a verdict that waits for the database is not to lose its claim meanwhile."""
QUEUE = "mailbatch:mailbatch"
LOCK = "mailbatch:job:lock:send-all"


# --- Redis -------------------------------------------------------------------------------------------------------


def restart_redis(house: House) -> None:
    """It comes back with its data."""
    house.redis.restart()


def lost_redis(seconds: float) -> Callable[[House], None]:
    """It is killed, and comes back after a while with nothing."""

    def injure(house: House) -> None:
        house.redis.kill()
        house.pass_time(seconds)
        for left in house.redis.log.parent.glob("appendonlydir"):
            shutil.rmtree(left)
        house.redis.start()

    return injure


def frozen_redis(seconds: float) -> Callable[[House], None]:
    """It keeps its connections and answers nothing for a while."""

    def injure(house: House) -> None:
        assert house.redis.process is not None
        house.redis.process.send_signal(SIGSTOP)
        house.relay.script()
        house.pass_time(seconds)
        house.redis.process.send_signal(SIGCONT)

    return injure


def ask_redis(action: Callable[[Any], object]) -> Callable[[House], None]:
    """Return ``action`` with a client of Redis."""

    def injure(house: House) -> None:
        with connect(house.redis.url) as client:
            action(client)

    return injure


def refuse_writes(client: Any) -> None:
    """It has no memory left for a while."""
    client.config_set("maxmemory", "1")
    time.sleep(AWAY)
    client.config_set("maxmemory", "0")


def turn_replica(client: Any) -> None:
    """It serves reads only for a while, as after a failover to the wrong side."""
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    time.sleep(AWAY)
    client.execute_command("REPLICAOF", "NO", "ONE")


def odd_messages(client: Any) -> None:
    """What no client of ours would queue: an unknown task, arguments of another version, pickle, and noise."""
    body = base64.b64encode(b'[[], {"unknown": 1}, {}]').decode()
    head = {"lang": "py", "id": "x", "root_id": "x", "argsrepr": "", "kwargsrepr": ""}
    message: dict[str, Any] = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "properties": {
            "correlation_id": "x",
            "delivery_tag": "x",
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "mailbatch"},
        },
    }
    unknown, other, pickled = (
        {**message, "headers": {**head, "task": task}} | more
        for task, more in (
            ("nobody's", {}),
            ("send-all", {}),
            ("send-all", {"content-type": "application/x-python-serialize", "content-encoding": "binary"}),
        )
    )
    for one in (unknown, other, pickled):
        client.lpush(QUEUE, json.dumps(one))
    client.lpush(QUEUE, "noise")


def two_more_runs(house: House) -> None:
    """Two commands that ask for no lock, beside the worker's run."""
    forced = [house.stack.process("mailbatch", "send-all", "--here", "--no-lock") for _ in range(2)]
    house.relay.script()
    for process in forced:
        process.wait_exit(30)


REDIS = [
    at(WAITING, "3a", "Redis is restarted", restart_redis, doubled=0, doubtful=False),
    at(WAITING, "3b", "Redis is killed and comes back empty", lost_redis(AWAY), doubtful=None, lasts=AWAY),
    at(WAITING, "3c", "Redis is frozen", frozen_redis(AWAY), doubtful=None, lasts=AWAY),
    at(WAITING, "3d", "Redis is flushed", ask_redis(lambda client: client.flushall()), doubled=0, doubtful=False),
    at(WAITING, "3e", "the lock is deleted", ask_redis(lambda client: client.delete(LOCK)), doubled=0, doubtful=False),
    at(
        WAITING,
        "3f",
        "the lock is stolen",
        ask_redis(lambda client: client.set(LOCK, "somebody else", px=2000)),
        doubled=0,
        doubtful=False,
    ),
    at(
        WAITING,
        "3g",
        "two more runs are forced, without a lock,",
        two_more_runs,
        doubled=0,
        doubtful=False,
        mails=200,
        lasts=10.0,
    ),
    at(WAITING, "3h", "Redis has no memory left", ask_redis(refuse_writes), doubtful=None, lasts=AWAY),
    at(WAITING, "3i", "Redis is a read-only replica", ask_redis(turn_replica), doubtful=None, lasts=AWAY),
    at(WAITING, "3k", "Redis is frozen for 20 s", frozen_redis(20), doubtful=None, lasts=20, short=False),
    at(WAITING, "3l", "Redis is gone for 30 s, and empty then,", lost_redis(30), doubtful=None, lasts=30, short=False),
    Fault(row="3j", name="messages in the queue that nobody of ours has sent", injure=ask_redis(odd_messages)),
]


# --- PostgreSQL --------------------------------------------------------------------------------------------------


def restarted(mode: Any) -> Callable[[House], None]:
    """It is stopped by ``mode`` while replies come in, and started again."""

    def injure(house: House) -> None:
        assert house.postgres is not None
        house.postgres.stop(mode)
        house.relay.script()
        house.pass_time(0.5)
        house.postgres.start()

    return injure


def kill_postgres(house: House) -> None:
    """SIGKILL to all of its processes."""
    assert house.postgres is not None
    house.postgres.kill()
    house.relay.script()
    house.postgres.start()


def freeze_postgres(house: House) -> None:
    """Its connections stay and answer nothing for a while."""
    assert house.postgres is not None
    house.postgres.freeze()
    house.relay.script()
    time.sleep(AWAY)
    house.postgres.thaw()


def cut_connections(house: House) -> None:
    """The server ends every connection of mailbatch's."""
    house.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'mailbatch' AND pid <> pg_backend_pid()"
    )


def under(setting: str, meanwhile: Callable[[House], object]) -> Callable[[House], None]:
    """All new connections have ``setting`` while ``meanwhile`` goes on."""

    def injure(house: House) -> None:
        name = house.stack.database_url.partition("@/")[2].partition("?")[0]
        house.execute(f"ALTER DATABASE {name} SET {setting}")
        cut_connections(house)
        house.relay.script()
        meanwhile(house)
        house.execute(f"ALTER DATABASE {name} RESET {setting.partition(' ')[0]}")
        cut_connections(house)

    return injure


def refusing(code: str) -> Callable[[House], None]:
    """Each statement that writes verdicts fails with SQLSTATE ``code`` for a while."""

    def injure(house: House) -> None:
        house.execute(
            "CREATE OR REPLACE FUNCTION fault_error() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '{code}'; END $$",
            "CREATE OR REPLACE TRIGGER fault_error BEFORE UPDATE ON mail_reservations FOR EACH ROW"
            " WHEN (OLD.status = 'sending' AND NEW.status = 'sent') EXECUTE FUNCTION fault_error()",
        )
        house.relay.script()
        house.pass_time(AWAY)
        house.execute("DROP TRIGGER fault_error ON mail_reservations")

    return injure


def in_database(row: str, name: str, action: Callable[[House], object], **more: Any) -> Fault:
    """A row of the database: what the relay has said is known, so nothing may be repeated."""
    settings = {"LEASE": LONG_LEASE}
    return at(
        WAITING,
        row,
        name,
        action,
        **{"settings": settings, "doubled": 0, "doubtful": None, "lasts": AWAY + 5.0, **more},
    )


DATABASE = [
    in_database("4a", "PostgreSQL is restarted", restarted("fast")),
    in_database("4b", "PostgreSQL crashes (immediate stop)", restarted("immediate")),
    in_database("4c", "PostgreSQL is killed (-9)", kill_postgres),
    in_database("4d", "every connection to PostgreSQL is terminated", cut_connections),
    in_database("4e", "PostgreSQL is frozen", freeze_postgres),
    in_database(
        "4f",
        "PostgreSQL is read-only, as in a failover,",
        under("default_transaction_read_only = on", lambda house: house.pass_time(AWAY)),
    ),
    in_database(
        "4k",
        "PostgreSQL is read-only for 10 s",
        under("default_transaction_read_only = on", lambda house: house.pass_time(10)),
        settings={"LEASE": 20},
        lasts=30,
        short=False,
    ),
    in_database("4g", "the disk of PostgreSQL is full (SQLSTATE 53100) for verdicts", refusing("53100")),
    in_database("4h", "a deadlock is detected (SQLSTATE 40P01) for verdicts", refusing("40P01")),
    at(
        Step(name="as verdicts are written", latch=SETTLE),
        "4i",
        "PostgreSQL has a statement_timeout, and is slow,",
        under("statement_timeout = '300ms'", lambda house: house.pass_time(AWAY)),
        settings={"LEASE": LONG_LEASE},
        doubled=0,
        doubtful=None,
        lasts=AWAY + 5.0,
    ),
]


# --- SQLite ------------------------------------------------------------------------------------------------------


def lock_sqlite(house: House) -> None:
    """Another writer holds the file for a while."""
    path = house.stack.database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        house.relay.script()
        end = time.monotonic() + AWAY
        wait_until(lambda: time.monotonic() > end, AWAY + 1, "time to pass")
        writer.execute("COMMIT")


SQLITE = [in_database("4j", "SQLite is locked by another writer", lock_sqlite)]
