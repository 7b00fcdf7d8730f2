"""Canaries: secrets, addresses and contents that must be found nowhere outside of the database."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from support.backlogs import database, states
from support.operating import act_on_all
from support.smtpfault import FaultServer
from support.stack import Stack
from support.waiting import wait_until

from mailbatch.application.looking.metrics import Measure
from mailbatch.domain.act import Act
from mailbatch.domain.reservation import Status
from mailbatch.domain.selection import Selection
from mailbatch.infrastructure.db.engine import connect as engine_for
from mailbatch.infrastructure.db.metrics import SqlMeasures
from mailbatch.infrastructure.db.reports import SqlReports
from mailbatch.infrastructure.db.tables import mail_reservations, run_errors
from mailbatch.infrastructure.redis.client import connect
from mailbatch.interfaces.http.exposition import Exposition

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis
    from support.smtpfault import Session

SECRETS = {
    "the database's password": "kanarie-db-71",
    "the password of Redis": "kanarie-redis-72",
    "the relay's password": "kanarie-smtp-73",
    "API_TOKEN": "kanarie-token-74",
    "API_READ_TOKEN": "kanarie-reader-75",
    "the path of WEBHOOK_URL": "kanarie-hook-76",
    "WEBHOOK_SECRET": "whsec_a2FuYXJpZS1ob29rLTc2",
}
MAILS: dict[str, dict[str, Any]] = {
    "sent": {"subject": "kanarie-subject-01 {{ who }}", "context": {"who": "kanarie-context-02"}},
    "refused": {"body_html": "<p>kanarie-html-03</p>"},
    "deferred": {"reply_to": "kanarie-reply-04@example.org"},
    "no such name": {"subject": "kanarie-subject-05 {{ nobody }}", "context": {"who": "kanarie-context-06"}},
    "no template": {"body_text": "kanarie-text-07 {% if %}"},
    "no address": {"recipients": "Kanarie-name-08 <kanarie-broken-09@@example.org>"},
    "forged header": {"headers": {"X-A": "kanarie-header-10\r\nBcc: kanarie-bcc-11@example.org"}},
    "breaks while rendering": {"body_text": "{{ 'kanarie-text-12' / 0 }}", "context": {"who": "kanarie-context-13"}},
}
CANARY = re.compile("kanarie|a2FuYXJpZS1ob29rLTc2", re.IGNORECASE)


class Hook(ThreadingHTTPServer):
    """Takes the reports of runs."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.bodies: list[str] = []


class Receiver(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


def whoever(session: Session) -> None:
    """A relay that quotes the address in what it answers."""
    address = session.command.partition("<")[2].partition(">")[0]
    if "refused" in address:
        session.say(f"550 5.1.1 <{address}>: Recipient address rejected: user {address} unknown")
    elif "deferred" in address:
        session.say(f"451 4.2.1 {address} is over quota")
    else:
        session.ordinary()


@pytest.fixture
def relay() -> Iterator[FaultServer]:
    with FaultServer({"rcpt": whoever}, login=("ann", SECRETS["the relay's password"])) as server:
        yield server


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def guarded(postgres_url, private_redis, relay, hook, tmp_path) -> Iterator[Stack]:
    """Everything has a password."""
    with connect(private_redis.url) as client:
        client.config_set("requirepass", SECRETS["the password of Redis"])
    redis_url = private_redis.url.replace("://", f"://:{SECRETS['the password of Redis']}@")
    database_url = make_url(postgres_url).set(password=SECRETS["the database's password"])
    password = SECRETS["the relay's password"]
    smtp_url = f"smtp://ann:{password}@127.0.0.1:{relay.port}?starttls=off"
    with Stack(database_url.render_as_string(hide_password=False), redis_url, smtp_url, tmp_path / "stack") as stack:
        stack.settings |= {name: SECRETS[name] for name in ("API_TOKEN", "API_READ_TOKEN", "WEBHOOK_SECRET")}
        stack.settings |= {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"}
        # Of such an address the path is the secret.
        stack.settings["WEBHOOK_URL"] = f"http://127.0.0.1:{hook.server_port}/{SECRETS['the path of WEBHOOK_URL']}"
        yield stack


def reserve_canaries(stack: Stack) -> None:
    with database(stack.database_url) as connection:
        for number, (name, columns) in enumerate(MAILS.items()):
            plain = {"recipients": f"kanarie-{name.replace(' ', '-')}-{number}@example.org", "subject": "kanarie"}
            connection.execute(sa.insert(mail_reservations).values(**{**plain, "body_text": "kanarie", **columns}))


def everything_in(client: redis.Redis) -> str:
    """All keys of a Redis and what they hold."""
    found = []
    for key in client.scan_iter():
        match client.type(key):
            case "string":
                found.append(client.get(key))
            case "list":
                found.append(client.lrange(key, 0, -1))
            case "hash":
                found.append(client.hgetall(key))
            case "set":
                found.append(sorted(client.smembers(key)))
            case "zset":
                found.append(client.zrange(key, 0, -1))
        found.append(key)
    return json.dumps(found)


def requeue_failed(url: str) -> None:
    engine = engine_for(url)
    assert act_on_all(engine, Act.REQUEUE, Selection(status=Status.FAILED)).changed == 6
    engine.dispose()


def metrics_of(url: str) -> str:
    engine = engine_for(url)
    text = Exposition(
        Measure(SqlReports(engine), SqlMeasures(engine), lambda: None), version="1", interval=1
    )().decode()
    engine.dispose()
    return text


def test_no_secret_no_address_and_no_content_leaves_the_database(guarded, relay, hook):
    reserve_canaries(guarded)
    worker = guarded.worker("-c", "1", "--loglevel=DEBUG")
    guarded.call()
    wait_until(lambda: states(guarded.database_url).get("failed") == 6, 30, "all are judged")
    worker.wait_for_log("job finished: send-all")
    assert states(guarded.database_url) == {"sent": 1, "pending": 1, "failed": 6}
    assert len(relay.journal) == 1

    wait_until(lambda: hook.bodies, 15, "the report is posted")
    del guarded.settings["WEBHOOK_URL"]

    # Once more in this form, and with a password that the relay refuses and quotes.
    requeue_failed(guarded.database_url)
    guarded.settings |= {"LOG_FORMAT": "text"}
    again = guarded.cli("send-all", "--here", "--json")
    assert json.loads(again.stdout)["failed"] == 6
    relay.login = ("ann", "another")
    requeue_failed(guarded.database_url)
    refused = guarded.cli("send-all", "--here")
    assert "535" in refused.stdout + refused.stderr

    looked_at = {
        "the log, as JSON": worker.log_text(),
        "the log, as text": again.stderr,
        "the report": again.stdout,
        "the report as it is posted": hook.bodies[0],
        "what a refused password says": refused.stdout + refused.stderr,
        "what the doctor says": guarded.cli("doctor").stdout,
        "the metrics": metrics_of(guarded.database_url),
    }
    with connect(guarded.redis_url) as client:
        looked_at["Redis, with what Celery keeps there"] = everything_in(client)
    for place, text in looked_at.items():
        assert not [line for line in text.splitlines() if CANARY.search(line)], place
        assert text, place
    # The log is at its most talkative, tells of each mail, and the database keeps what the relay really said.
    assert all("[error]Index:" in looked_at[f"the log, as {form}"] for form in ("JSON", "text"))
    assert '"debug"' in worker.log_text()
    assert '"lane": 0' in worker.log_text()
    with database(guarded.database_url) as connection:
        assert "kanarie-refused-1@example.org" in json.dumps(connection.scalars(sa.select(run_errors.c.errors)).all())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMTP_URL", "smtp://ann:kanarie@[127.0.0.1:25"),
        ("SMTP_URL", "smtp://ann:kana@rie/kanarie@mx:99999"),
        ("DATABASE_URL", "postgresql://ann:kanarie:x@db:999999/x"),
        ("REDIS_URL", "redis://:kanarie@db:port/0"),
        ("WEBHOOK_URL", "ftp://ann:kanarie@hooks/"),
    ],
)
def test_a_broken_setting_is_told_without_its_secret(sqlite_url, tmp_path, name, value):
    with Stack(sqlite_url, "redis://127.0.0.1:1/0", "smtp://127.0.0.1:1", tmp_path) as stack:
        stack.settings[name] = value
        done = stack.cli("status")
        assert done.returncode == 2
        assert f"MAILBATCH_{name}=" in done.stderr
        assert not CANARY.search(done.stderr + done.stdout)
