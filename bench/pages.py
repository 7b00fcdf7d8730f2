"""Measures how long pages, lists and reservations take with a million mails in PostgreSQL.

Run it by ``make bench-pages``. It uses a private server like the tests (``shared_buffers`` of 64 MB, no fsync),
``mailbatch serve`` on loopback, and one plain client that opens a connection for each request. Each address is
requested five times; pages at intervals of two seconds, so that the overview queries the database each time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from support.backlogs import database, states
from support.postgres import PostgresServer
from support.sink import Sink
from support.stack import Stack
from support.waiting import wait_until

from mailbatch.domain.rows import ReservationPlace, RunPlace
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations
from mailbatch.infrastructure.redis import embedded
from mailbatch.interfaces.http.request_params import cursor_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.processes import ManagedProcess

MILLION = Path(__file__).with_name("million.sql")
LIMIT = 200.0
"""Longest time of a page, in milliseconds."""
TIMES, APART = 5, 2.0
BATCH, BATCHES = 500, 20
_BUSY = "00000000-0000-4000-8000-000000000007"
"""The run with 5,000 errors in million.sql."""

say = partial(print, flush=True)
_r, _b = mail_reservations.c, batch_runs.c


class Client:
    """A plain HTTP client: it opens a connection for each request."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, address: str) -> float:
        """Request ``path``, read the whole response, and return the milliseconds."""
        began = time.perf_counter()
        self._ask("GET", address)
        return (time.perf_counter() - began) * 1000

    def post(self, address: str, body: Any) -> Any:
        """Send JSON and return the response."""
        return json.loads(self._ask("POST", address, json.dumps(body), {"Content-Type": "application/json"}))

    def _ask(self, method: str, address: str, *more: Any) -> bytes:
        connection = http.client.HTTPConnection("localhost", self._port, timeout=120)
        connection.request(method, address, *more)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        assert answer.status < 300, f"{address}: {answer.status} {said[:300]!r}"
        return said


def main() -> int:
    """Fill the database, send requests, print. Return 1 if a page is too slow, except the search by address alone."""
    reader = argparse.ArgumentParser(prog="pages", description=__doc__.splitlines()[0])
    reader.add_argument("--only", default="", help="only addresses that contain this")
    reader.add_argument("--no-reserve", action="store_true", help="do not reserve")
    reader.add_argument("--worker", action="store_true", help="also what an open console costs a worker")
    said = reader.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="pages-", dir="/tmp") as folder,
        embedded.start(Path(folder, "redis"), append_only=False) as redis,
        PostgresServer(durable=False) as postgres,
        Sink(Path(folder, "sink")) as sink,
    ):
        url = postgres.url(postgres.create_database())
        upgrade(url)
        stack = Stack(url, redis.url, sink.url, Path(folder, "stack"))
        with stack:
            if said.worker:
                _open_console(stack)
                return 0
            _fill(url)
            serving = serve(stack)
            client = Client(port_of(serving))
            try:
                slow = _pages(url, client, said.only)
            except AssertionError:
                say(serving.log_text()[-4000:])
                raise
            if not said.no_reserve:
                _reserve(client)
    return int(slow)


def serve(stack: Stack) -> ManagedProcess:
    return stack.process("mailbatch", "serve", "--port", "0")


def port_of(serving: ManagedProcess) -> int:
    return int(serving.wait_for_log(r"mailbatch serves on http://\S+:(\d+)", 30)[1])


def _fill(url: str) -> None:
    began = time.monotonic()
    with database(url) as connection:
        for statement in filter(str.strip, MILLION.read_text(encoding="utf-8").split(";\n")):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    engine = connect(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()
    say(f"filled in {time.monotonic() - began:.0f} s: {states(url)}")


# --- pages and lists ---


def _pages(url: str, client: Client, only: str) -> bool:
    client.get("/healthz")
    say(f"load {os.getloadavg()[0]:.2f}; milliseconds: the fastest of {TIMES}, their median, the slowest")
    slow = False
    for name, address in _addresses(url):
        if only not in address:
            continue
        took = []
        for _ in range(TIMES):
            time.sleep(0 if address.startswith("/api") else APART)
            took.append(client.get(address))
        late = median(took) >= LIMIT
        slow = slow or (late and "to=" not in address)
        say(f"{min(took):7.0f} {median(took):7.0f} {max(took):7.0f}  {'SLOW ' if late else '     '}{name}")
    return slow


def _addresses(url: str) -> Iterator[tuple[str, str]]:
    one = {state: _one(url, state) for state in ("sent", "failed", "pending", "in_doubt")}
    plain = ("/", "/live", "/runs", "/schedule", "/schedule/plan", "/twice", "/twice?since=5w", f"/runs/{_BUSY}")
    for page in plain:
        yield page.replace(_BUSY, "ID"), page
    for state, own in one.items():
        yield f"/reservations/ID ({state})", f"/reservations/{own}"
    for bulk in (
        "/bulk/cancel?status=pending",
        "/bulk/requeue?status=failed&reply=4xx&since=1h",
        "/bulk/cancel?tag=news",
    ):
        yield bulk, bulk
    for where, key in _places(url, batch_runs, (_b.started_at, _b.run_id), sa.true()):
        yield f"/runs, {where}", f"/runs?cursor={key}" if key else "/runs"
        yield f"/api/runs, {where}", f"/api/runs?cursor={key}" if key else "/api/runs"
    yield "/api/runs/ID", f"/api/runs/{_BUSY}"
    yield "/api/runs/ID/errors", f"/api/runs/{_BUSY}/errors"
    for api in ("/api/status", "/api/is-running", "/api/actions", "/metrics", "/readyz"):
        yield api, api
    for query, where in _FILTERS.items():
        timed = "since" in query or "run" in query
        moment = _r.finished_at if timed else _r.created_at
        for place, key in _places(url, mail_reservations, (moment, _r.id), where):
            for path in ("/reservations", "/api/reservations"):
                address = "&".join(filter(None, (query.replace("RUN", _BUSY), f"cursor={key}" if key else "")))
                yield f"{path}?{query}, {place}", f"{path}?{address}"
    yield "/api/reservations?limit=500", "/api/reservations?limit=500"
    for query in ("to=to4711@", "to=nobody", "to=nobody&status=failed", "to=nobody&since=1d"):
        yield f"/api/reservations?{query}", f"/api/reservations?{query}"


_DAY = sa.text("now() - interval '1 day'")
_FILTERS: dict[str, Any] = {
    "": sa.true(),
    "status=sent": _r.status == "sent",
    "status=pending": _r.status == "pending",
    "status=failed": _r.status == "failed",
    "status=sent&since=1d": sa.and_(_r.status == "sent", _r.finished_at >= _DAY),
    "since=1d&status=failed": sa.and_(_r.status == "failed", _r.finished_at >= _DAY),
    "tag=news": _r.tag == "news",
    "tag=rare": _r.tag == "rare",
    "status=failed&tag=rare": sa.and_(_r.tag == "rare", _r.status == "failed"),
    "reply=4xx": sa.and_(_r.reply_code >= 400, _r.reply_code < 500),
    "status=failed&reply=4xx": sa.and_(_r.status == "failed", _r.reply_code >= 400, _r.reply_code < 500),
    "status=failed&run=RUN": sa.and_(_r.status == "failed", _r.run_id == _BUSY),
}


def _places(url: str, table: sa.Table, key: Sequence[Any], where: Any) -> Iterator[tuple[str, str | None]]:
    """Return the cursors of the first, the middle and the last page of a list."""
    yield "first", None
    kind = ReservationPlace if table is mail_reservations else RunPlace
    with database(url) as connection:
        many = connection.scalar(sa.select(sa.func.count()).select_from(table).where(where))
        for place, offset in (("middle", many // 2), ("last", max(0, many - 30))):
            rows = sa.select(table).where(where).order_by(*(c.desc() for c in key)).offset(offset).limit(1)
            row = connection.execute(rows).first()
            if row is not None:
                yield place, cursor_of(row, kind)


def _one(url: str, state: str) -> str:
    with database(url) as connection:
        return str(connection.scalar(sa.select(_r.id).where(_r.status == state).limit(1)))


# --- reserving ---


def _reserve(client: Client) -> None:
    took = []
    for batch in range(BATCHES + 2):
        mails = [
            {
                "recipients": f"to{n}@example.com",
                "subject": "Your order {{ number }}",
                "body_text": "Dear {{ name }},\n\nthank you for order {{ number }}.\n",
                "context": {"name": "Zoë", "number": n},
                "tag": "orders",
                "idempotency_key": f"pace-{batch}-{n}",
            }
            for n in range(BATCH)
        ]
        began = time.perf_counter()
        answer = client.post("/api/reservations", mails)
        took.append(time.perf_counter() - began)
        assert answer["reserved"] == BATCH, answer
    took = took[2:]
    rates = [BATCH / seconds for seconds in took]
    say(
        f"reserved {BATCH} at once, {BATCHES} times: {BATCH * BATCHES / sum(took):,.0f} mails/s "
        f"(slowest {min(rates):,.0f}, median {median(rates):,.0f}, fastest {max(rates):,.0f}); "
        f"load {os.getloadavg()[0]:.2f}"
    )


# --- the cost of an open console ---


def _open_console(stack: Stack) -> None:
    """Run 20,000 mails alternately without and with three open overviews, which refresh every two seconds."""
    port = port_of(serve(stack))
    stack.worker("-c", "1")
    rates: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(6):
        looked_at = bool(turn % 2)
        with database(stack.database_url) as connection:
            connection.exec_driver_sql(
                "INSERT INTO mail_reservations (recipients, subject, body_text) SELECT format('to%%s@example.org', n), "
                "'Hello', 'Hello' FROM generate_series(1, 20000) n"
            )
        with _looking(port, 3 if looked_at else 0):
            report = stack.json("send-all")
        assert report["sent"] == 20_000, report
        rates[looked_at].append(report["sent"] / report["duration"])
        say(f"{'looked at' if looked_at else 'alone    '} {rates[looked_at][-1]:,.0f} mails/s")
    say(f"median {median(rates[False]):,.0f} alone, {median(rates[True]):,.0f} looked at")


@contextmanager
def _looking(port: int, many: int) -> Iterator[None]:
    """Hold this many open overviews."""
    import threading

    done = threading.Event()

    def look() -> None:
        client = Client(port)
        while not done.wait(2.0):
            client.get("/live")

    threads = [threading.Thread(target=look) for _ in range(many)]
    for thread in threads:
        thread.start()
    yield
    done.set()
    wait_until(lambda: not any(thread.is_alive() for thread in threads), 30, "they look away")


if __name__ == "__main__":
    sys.exit(main())
