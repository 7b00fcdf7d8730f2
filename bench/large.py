"""Measures how long people and runs wait on a table of two years: five million mails in PostgreSQL, one in SQLite.

Run it by ``make bench-large``. The servers are private, like those of the tests (without fsync). Each request of a
person is sent three times, and the slowest time is printed. A run is one lane without a relay. It claims and settles
128 mails at a time: first alone, then while another process cancels, requeues or purges.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import sqlalchemy as sa
from support.backlogs import database, states
from support.operating import act_on_all, acting
from support.postgres import PostgresServer
from support.sink import Sink
from support.stack import Stack

from bench.pages import MILLION, Client, port_of, serve
from mailbatch.application.acting.purge import Purge
from mailbatch.application.looking.inquire import ListReservations
from mailbatch.application.ports.stores import PATIENCE
from mailbatch.domain.act import Act
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.outcome import Kind, Replied, Reply, Verdict
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.rows import ReservationPlace, ReservationSummary
from mailbatch.domain.selection import Selection, Tagged
from mailbatch.domain.settlement import settle
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.files import SqlFiles
from mailbatch.infrastructure.db.health_query import SqlHealthQuery
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.portions import Portions
from mailbatch.infrastructure.db.reports import SqlReports
from mailbatch.infrastructure.db.reservations import SqlReservations
from mailbatch.infrastructure.db.tables import batch_runs, mail_files, mail_reservations
from mailbatch.infrastructure.redis import embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection, Engine

SQLITE = Path(__file__).with_name("large.sql")
WAIT, STEP, SHARE = 1.0, 0.1, 0.8
"""Largest seconds that a person waits and that a step of a run takes; smallest share of its rate that a run keeps."""
GROUP = 128
_SHOWN = 5
"""How many of the slowest steps are shown: one of them may be the machine's fault."""
_FILES, _OF_A_FILE = 10_000, 10_000
"""Stored files, and the bytes of each."""
_RETRY = RetryPolicy()
_YES = {"ann@example.org": Verdict(Kind.ACCEPTED, Reply(250, "2.0.0 ok"))}
_DAY = 86_400.0

say = partial(print, flush=True)


def main() -> int:
    """Fill the database, send requests, run bulk actions. Return 1 if a limit is exceeded."""
    reader = argparse.ArgumentParser(prog="large", description=__doc__.splitlines()[0])
    reader.add_argument("--millions", type=int, default=5, help="mails in PostgreSQL")
    reader.add_argument("--only", choices=["postgresql", "sqlite"], help="only this database")
    said = reader.parse_args()
    slow: list[str] = []
    if said.only != "sqlite":
        slow += _on_postgresql(said.millions)
    if said.only != "postgresql":
        slow += _on_sqlite()
    say("too slow: " + "; ".join(slow) if slow else "nobody waits too long")
    return int(bool(slow))


def _on_postgresql(millions: int) -> list[str]:
    with (
        tempfile.TemporaryDirectory(prefix="large-", dir="/tmp") as folder,
        PostgresServer(durable=False, buffers="512MB") as postgres,
    ):
        url = postgres.url(postgres.create_database())
        upgrade(url)
        _timed("filled", lambda: _fill_postgresql(url, millions))
        slow = _ask(url)
        slow += _open_console(url, Path(folder))
        return slow + _act(url)


def _on_sqlite() -> list[str]:
    with tempfile.TemporaryDirectory(prefix="large-", dir="/tmp") as folder:
        url = f"sqlite:///{folder}/mail.db"
        upgrade(url)
        with database(url) as connection:
            _timed("filled", lambda: connection.exec_driver_sql(SQLITE.read_text(encoding="utf-8")))
        _add_files(url)
        return _ask(url) + _act(url)


def _fill_postgresql(url: str, millions: int) -> None:
    text = MILLION.read_text(encoding="utf-8")
    text = text.replace("1000000", str(millions * 1_000_000)).replace("2.59 s", f"{2 * 365 * 86.4 / millions / 1000} s")
    with database(url) as connection:
        # Creating six indexes at the end costs less than updating them for each row.
        for index in mail_reservations.indexes:
            index.drop(connection)
        for statement in filter(str.strip, text.replace("8640", "200000").split(";\n")):
            connection.exec_driver_sql(statement.replace("%", "%%"))
        for index in mail_reservations.indexes:
            index.create(connection)
    _add_files(url)
    engine = connect(url)
    _vacuum(engine)
    engine.dispose()
    say(states(url))


def _add_files(url: str) -> None:
    """Store files that were not touched for long, half of which mails name."""
    r, mails, ids = mail_reservations.c, sa.bindparam("mail"), [f"{n:064x}" for n in range(_FILES)]
    rows = [{"id": own, "content": bytes(_OF_A_FILE), "touched_at": datetime(2026, 1, 1, tzinfo=UTC)} for own in ids]
    with database(url) as connection:
        connection.execute(sa.insert(mail_files), rows)
        named = connection.scalars(sa.select(r.id).where(r.status == "pending").limit(_FILES // 2))
        naming = sa.update(mail_reservations).where(r.id == mails)
        given = [{"mail": mail, "attachments": [{"file": own}]} for mail, own in zip(named, ids, strict=False)]
        connection.execute(naming, given)


# --- requests of people ---


def _ask(url: str) -> list[str]:
    engine = connect(url)
    slow = []
    for name, ask in _questions(engine):
        took = max(_timed(None, ask) for _ in range(3))
        limit = STEP if name == "remaining" else WAIT
        if took > limit:
            slow.append(name)
        say(f"{took * 1000:8.0f} ms  {'SLOW ' if took > limit else '     '}{name}")
    engine.dispose()
    return slow


def _questions(engine: Engine) -> Iterator[tuple[str, Callable[[], object]]]:
    backlog = _backlog(engine)
    store, reports = SqlReservations(engine), SqlReports(engine)
    yield "remaining", backlog.remaining
    yield "status", reports.census
    yield "signs of life", lambda: SqlHealthQuery(engine).health("send-all", 60)
    day = datetime.now(UTC) - timedelta(days=1)
    filters = [
        {},
        *({"status": status} for status in Status),
        *({"tag": tag} for tag in ("rare", "orders", "nobody's")),
        *({"tag": tag, "status": status} for tag in ("rare", "orders") for status in Status),
        *({"tag": "orders", "since": day}, {"tag": "rare", "since": day - timedelta(days=600)}),
        *({"to": to} for to in ("to4711@", "to49@", "nobody")),
        *({"to": "nobody", **more} for more in ({"status": Status.FAILED}, {"since": day}, {"tag": "orders"})),
        *({"reply": reply} for reply in ("550", "4xx", "5xx", "421", "250", "251", "none")),
        *({"reply": "421", "status": status} for status in (Status.FAILED, Status.PENDING, Status.SENT)),
    ]
    for given in filters:
        which = Selection(**given)  # type: ignore[arg-type] # by the names of its fields
        name = ", ".join(f"{key}={value:%F}" if key == "since" else f"{key}={value}" for key, value in given.items())
        yield f"list {name}", partial(store.search, which, ReservationPlace, None, 51, PATIENCE)
        yield f"count {name}", partial(store.estimate, which, 10_000, 0.2)
    yield (
        "list, 20 pages of tag=orders",
        lambda: list(ListReservations(store)(Selection(tag="orders"), 1000, ReservationSummary)),
    )
    for act, which in (
        (Act.CANCEL, Selection(tag="orders")),
        (Act.DELETE, Selection(status=Status.SENT, to="nobody")),
        (Act.REQUEUE, Selection(status=Status.FAILED, reply="421")),
    ):
        yield f"preview of {act.value}", partial(acting(store.engine).count, act, which)


def _open_console(url: str, folder: Path) -> list[str]:
    with (
        embedded.start(folder / "redis", append_only=False) as redis,
        Sink(folder / "sink") as sink,
        Stack(url, redis.url, sink.url, folder / "stack") as stack,
    ):
        serving = serve(stack)
        client = Client(port_of(serving))
        client.get("/healthz")
        took = client.get("/") / 1000
    say(f"{took * 1000:8.0f} ms  {'SLOW ' if took > WAIT else '     '}the console's first page, cold")
    return ["the console's first page"] if took > WAIT else []


# --- bulk actions during a run ---


def _act(url: str) -> list[str]:
    engine = connect(url)
    _reserve(engine, "run", 60_000)
    alone, first, steps = _run(engine, lambda: False)
    _clear(engine)
    say(f"a run alone: {alone:,.0f} mails/s; {_slowest(first, steps)}")
    slow = []
    for name in _ACTS:
        _reserve(engine, "run", 300_000)
        if name == "cancel":
            _reserve(engine, "spring", 100_000, scheduled_at=datetime.now(UTC) + timedelta(days=9))
        beside = multiprocessing.get_context("spawn").Process(target=_in_other_process, args=(url, name))
        beside.start()
        rate, first, steps = _run(engine, lambda beside=beside: not beside.is_alive())
        beside.terminate()
        beside.join()
        _clear(engine)
        late = [what for what, is_so in (("step", max(steps) > STEP), ("rate", rate < SHARE * alone)) if is_so]
        slow += [f"{what} beside {name}" for what in late]
        say(f"beside {name}: {rate:,.0f} mails/s ({rate / alone:.0%}); {_slowest(first, steps)}")
    engine.dispose()
    return slow


def _slowest(first: float, steps: list[float]) -> str:
    shown = ", ".join(f"{step * 1000:.0f}" for step in sorted(steps)[: -_SHOWN - 1 : -1])
    return f"first claim {first * 1000:.0f} ms, slowest of {len(steps):,} steps {shown} ms"


def _cancel(engine: Engine) -> object:
    return act_on_all(engine, Act.CANCEL, Tagged("spring"), Portions())


def _requeue(engine: Engine) -> object:
    return act_on_all(engine, Act.REQUEUE, Selection(status=Status.FAILED), Portions())


def _purge(engine: Engine) -> object:
    return Purge(interventions=SqlInterventions(engine), files=SqlFiles(engine))(90 * _DAY)


def _purge_files(engine: Engine) -> object:
    return SqlFiles(engine).purge()


_ACTS = {"cancel": _cancel, "requeue": _requeue, "purge": _purge, "purge of files": _purge_files}


def _in_other_process(url: str, name: str) -> None:
    engine = connect(url)
    took = _timed(None, lambda: say(f"{name}: {_ACTS[name](engine)}"))
    say(f"{name} took {took:.1f} s")


def _run(engine: Engine, ended: Callable[[], bool]) -> tuple[float, float, list[float]]:
    """Run a lane without a relay until no mail is due or ``ended``, at most 20 s.

    Return mails/s, the seconds of the first claim, and those of each step after it.
    """
    backlog, run_id = _backlog(engine), uuid4()
    # As a worker does. A full collection takes 0.1 s.
    gc.collect()
    gc.freeze()
    with engine.begin() as connection:
        connection.execute(sa.insert(batch_runs).values(run_id=run_id, job="send-all", trigger="manual"))
    began = time.perf_counter()
    page = backlog.claim(run_id, 0, None, GROUP)
    sent, first, steps = 0, time.perf_counter() - began, [0.0]
    while page.claimed and time.perf_counter() - began < 20 and not ended():
        verdicts = [
            settle(
                Replied(c.claim, "relay:25", _YES),
                attempts=1,
                earlier={},
                retry=_RETRY,
                on_doubt=OnDoubt.HOLD,
                jitter=0.5,
            )
            for c in page.claimed
        ]
        step = time.perf_counter()
        held, page = backlog.settle_and_claim(run_id, 0, verdicts, page.cursor, GROUP)
        steps.append(time.perf_counter() - step)
        sent += len(held)
    rate = sent / (time.perf_counter() - began)
    backlog.release_orphans(run_id, 0, ())
    return rate, first, steps


def _backlog(engine: Engine) -> SqlBacklog:
    return SqlBacklog(engine=engine, lease=60, retry=_RETRY, message_id_domain="example.org")


def _reserve(engine: Engine, tag: str, many: int, **columns: Any) -> None:
    rows = [
        {"recipients": "ann@example.org", "subject": "s", "body_text": "t", "priority": 50, "tag": tag, **columns}
    ] * many
    with engine.begin() as connection:
        connection.execute(sa.insert(mail_reservations), rows)


def _clear(engine: Engine) -> None:
    with engine.begin() as connection:
        _delete(connection)
    if engine.dialect.name == "postgresql":
        _vacuum(engine, "mail_reservations")


def _vacuum(engine: Engine, table: str = "") -> None:
    """Do what autovacuum does in time. Otherwise the next claim passes over all entries that were deleted just now."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"VACUUM ANALYZE {table}")


def _delete(connection: Connection) -> None:
    r = mail_reservations.c
    connection.execute(sa.delete(mail_reservations).where(r.tag.in_(["run", "spring"]), r.status != "sent"))


def _timed(what: str | None, do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    took = time.perf_counter() - began
    if what:
        say(f"{what} in {took:.0f} s")
    return took


if __name__ == "__main__":
    sys.exit(main())
