"""``mailbatch doctor`` tries what a run needs, and leaves nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest
import trustme
from psycopg import sql
from support.databases import contents
from support.postgres import PostgresServer
from support.tls import tls_before
from support.waiting import wait_until

from mailbatch.client import reserve
from mailbatch.config import Settings
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.redis.client import connect as redis_at
from mailbatch.interfaces.cli.doctor import _settings as check_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.infrastructure.redis.embedded import EmbeddedRedis

DEPLOY = Path(__file__).parents[2] / "docs/how-to/deploy.md"
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def doctor(say: Say, sqlite_url: str, redis_url: str, smtp_sink: Any) -> Callable[..., dict[str, Any]]:
    """Calls the doctor; returns what it found, by check."""
    usual = {"DATABASE_URL": sqlite_url, "REDIS_URL": redis_url, "SMTP_URL": smtp_sink.url, "SENDER": "a@example.com"}

    def ask(**settings: str) -> dict[str, Any]:
        _, out, err = say("doctor", "--json", **{**usual, **settings})
        assert "Traceback" not in err
        return {found["check"]: found for found in json.loads(out)}

    return ask


def told(finding: dict[str, Any]) -> str:
    return f"{finding['found']}; {finding['advice']}"


def test_nothing_is_left_of_what_it_tries(doctor, database_url, redis_url):
    engine = connect(database_url)
    before = contents(engine)
    found = doctor(DATABASE_URL=database_url)
    assert all(finding["ok"] for finding in found.values()), found
    assert "takes what a run writes" in found["database"]["found"]
    assert contents(engine) == before
    engine.dispose()
    with redis_at(redis_url) as client:
        assert list(client.scan_iter("*doctor*")) == []


def test_the_waiting_mails_that_would_fail_are_counted(doctor, database_url):
    engine = connect(database_url)
    with engine.begin() as connection:
        for body, nick in (("Dear {{ nick }}", None), ("Dear {{ nick or 'you' }}", None), ("Dear {{ nick }}", "Ann")):
            reserve(connection, to="a@example.com", subject="s", text=body, context={"nick": nick})
    engine.dispose()
    found = doctor(DATABASE_URL=database_url)["mails"]
    assert found["ok"]
    assert found["found"].startswith("1 of 3 waiting mails cannot be rendered; ")
    assert found["found"].endswith("body_text line 1: 'nick' is null")
    assert "mailbatch preview" in found["advice"]


def test_folders_that_mails_need_are_tried_on_this_host(doctor, tmp_path, monkeypatch):
    files, templates = tmp_path / "files", tmp_path / "templates"
    files.mkdir()
    (templates / "order").mkdir(parents=True)
    folders = {"ATTACHMENT_DIR": str(files), "TEMPLATE_DIR": str(templates), "SPOOL_DIR": str(tmp_path)}
    found = doctor(**folders)["folders"]
    assert found["ok"], found
    assert found["found"] == f"there are no attachments in {files}: the folder is empty"
    (files / "a.pdf").touch()
    expected = f"attachments in {files}, templates in {templates}, temporary files in {tmp_path}"
    assert doctor(**folders)["folders"]["found"] == expected
    scandir = os.scandir

    def stale(path):
        if path == files:
            raise OSError(errno.ESTALE, "Stale file handle")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", stale)
    away = doctor(**folders | {"SPOOL_DIR": "/proc"})["folders"]
    assert not away["ok"]
    assert f"attachments: the folder {files} cannot be opened: Stale file handle; " in away["found"]
    assert "a temporary file in /proc cannot be used" in away["found"]
    assert "lose no attempt" in away["advice"]


def test_a_pool_of_one_connection_is_enough(doctor, postgres_url):
    found = doctor(DATABASE_URL=f"{postgres_url}&pool_size=1&max_overflow=0")["database"]
    assert found["ok"], found


@pytest.fixture
def standby(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    with PostgresServer(durable=False, like=postgres_server) as server:
        yield server


def test_a_standby_takes_no_writes(doctor, standby, postgres_template, postgres_server):
    name = postgres_server.create_database(postgres_template)
    with psycopg.connect(standby.url().replace("+psycopg", ""), autocommit=True) as connection:
        there = sql.SQL("SELECT 1 FROM pg_database WHERE datname = {}").format(name)
        wait_until(lambda: connection.execute(there).fetchone() is not None, 30, "the standby has the database")
    found = doctor(DATABASE_URL=standby.url(name))["database"]
    postgres_server.drop_database(name)
    assert not found["ok"]
    assert "must lead to the primary" in told(found)


def test_a_role_without_the_grants_is_told_which(doctor, postgres_url):
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS half_a_worker")
        connection.execute("CREATE ROLE half_a_worker LOGIN")
        connection.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON mail_reservations TO half_a_worker")
        try:
            found = doctor(DATABASE_URL=postgres_url.replace("mailbatch@", "half_a_worker@"))["database"]
        finally:
            connection.execute("DROP OWNED BY half_a_worker")
            connection.execute("DROP ROLE half_a_worker")
    assert not found["ok"]
    assert "lacks" in found["found"]
    assert "UPDATE on batch_runs" in found["found"]
    assert "mailbatch grants send" in told(found)


@pytest.mark.parametrize("table", ["mail_reservations", "mail_attempts", "batch_runs", "run_errors"])
def test_a_table_that_takes_no_new_row_is_not_ok(doctor, sqlite_url, table):
    engine = connect(sqlite_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TRIGGER closed BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'closed today'); END"
        )
    engine.dispose()
    found = doctor(DATABASE_URL=sqlite_url)["database"]
    assert not found["ok"]
    assert "closed today" in told(found)


@pytest.mark.parametrize("mode", ["a file", "a folder"])
def test_an_sqlite_file_that_cannot_be_written_is_not_ok(doctor, sqlite_url, mode, monkeypatch):
    query = "?mode=ro&uri=true" if mode == "a file" else "?immutable=1&uri=true"
    found = doctor(DATABASE_URL=sqlite_url.replace("sqlite:///", "sqlite:///file:") + query)["database"]
    assert not found["ok"]
    assert "readonly" in found["found"].replace("-", "")


def test_a_full_redis_is_not_ok(doctor, private_redis):
    with redis_at(private_redis.url) as client:
        client.config_set("maxmemory", "1mb")
        found = doctor(REDIS_URL=private_redis.url)
        assert not found["redis"]["ok"]
        assert "raise its maxmemory" in told(found["redis"])
        assert not found["celery"]["ok"]
        client.config_set("maxmemory", "0")


def test_a_redis_that_drops_keys_is_noted(doctor, private_redis):
    with redis_at(private_redis.url) as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    found = doctor(REDIS_URL=private_redis.url)["redis"]
    assert "maxmemory-policy allkeys-lru" in found["found"]
    assert "noeviction" in found["advice"]


def test_a_replica_is_not_ok(doctor, private_redis):
    with redis_at(private_redis.url) as client:
        client.config_set("replica-serve-stale-data", "yes")
        client.replicaof("127.0.0.1", 1)
    found = doctor(REDIS_URL=private_redis.url)
    assert not found["redis"]["ok"]
    assert "must lead to the primary" in told(found["redis"])
    assert not found["celery"]["ok"]


ENOUGH = re.search(r"ACL SETUSER mailbatch on >\S+ (.*)", DEPLOY.read_text(encoding="utf-8"))[1]
SCANTY = ("-lpush", "-brpop", "-publish", "-psubscribe", "-eval", "-zadd", "-hset", "-sadd", "-setex", "-multi")


def with_user(server: EmbeddedRedis, rules: str) -> str:
    with redis_at(server.url) as client:
        client.execute_command("ACL", "SETUSER", "shop", "reset", "on", ">geheim", *rules.split())
    return server.url.replace("redis+socket://", "redis+socket://shop:geheim@")


def test_the_acl_that_is_documented_suffices(doctor, private_redis):
    found = doctor(REDIS_URL=with_user(private_redis, ENOUGH))
    assert found["redis"]["ok"], found
    assert found["celery"]["ok"], found


@pytest.mark.parametrize("lacking", [*SCANTY, "-subscribe", "resetchannels", "resetkeys ~other:*"])
def test_an_acl_that_does_not_suffice_for_a_worker_is_found(doctor, private_redis, lacking):
    found = doctor(REDIS_URL=with_user(private_redis, f"{ENOUGH} {lacking}"))
    wrong = [finding for finding in found.values() if finding["check"] in {"redis", "celery"} and not finding["ok"]]
    assert wrong, found
    assert "ACL does not suffice" in told(wrong[0])
    assert "geheim" not in json.dumps(found)


@pytest.mark.parametrize("url", ["sentinel://h:26379/0", "redis+sentinel://h/0", "redis-cluster://h/0", "amqp://h"])
@pytest.mark.parametrize("name", ["REDIS_URL", "BROKER_URL", "RESULT_BACKEND"])
def test_forms_of_redis_that_are_not_supported_are_refused_in_a_line(say, url, name):
    code, _, err = say("doctor", **{name: url})
    assert code == 2
    assert err.count("\n") == 1
    assert "must begin with redis://" in err


def test_a_worker_without_remote_control_is_not_taken_for_none(stack):
    stack.folder.mkdir()
    (stack.folder / "celeryconfig.py").write_text("worker_enable_remote_control = False\n")
    ask = partial(stack.cli, "doctor", "--json")
    found = {f["check"]: f for f in json.loads(ask().stdout)}["workers"]
    assert "none answers" in found["found"]
    worker = stack.worker()
    found = {f["check"]: f for f in json.loads(ask().stdout)}["workers"]
    assert "worker_enable_remote_control is off" in found["found"]
    assert stack.cli("reserve", "--to", "a@example.com", "--subject", "s", "--text", "t").returncode == 0
    assert stack.json("send-all")["sent"] == 1
    assert "Traceback" not in worker.log_text()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_redis_over_tcp_is_as_good_as_over_a_socket(doctor, private_redis):
    port = free_port()
    with redis_at(private_redis.url) as client:
        client.config_set("port", port)
    found = doctor(REDIS_URL=f"redis://127.0.0.1:{port}/1")
    assert found["redis"]["ok"], found
    assert found["celery"]["ok"], found


def test_redis_over_tls_is_spoken_to_and_its_certificate_is_checked(doctor, redis_url, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with tls_before(urlsplit(redis_url).path, context) as port:
        url = f"rediss://localhost:{port}/0"
        trusted = doctor(REDIS_URL=f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}")
        strange = doctor(REDIS_URL=url)
    assert trusted["redis"]["ok"], trusted
    assert trusted["celery"]["ok"], trusted
    assert "certificate" in strange["redis"]["found"].lower(), strange
    assert not strange["redis"]["ok"]
    assert not strange["celery"]["ok"]


def test_tokens_that_the_next_version_refuses_are_named():
    short, long = "s" * 15, "l" * 16

    def found(**tokens):
        finding = check_settings(Settings(sender="a@example.com", **tokens))
        assert finding.ok is (None if "characters" in finding.found else True)
        return finding.found

    assert re.match("MAILBATCH_API_TOKEN has fewer than 16 characters.*openssl rand", found(api_token=short))
    assert short not in found(api_token=short)
    assert "MAILBATCH_API_READ_TOKEN has fewer" in found(api_token=long, api_read_token="x")
    assert "characters" not in found(api_token=long, api_read_token=long)
