"""The harness itself: what it starts is real, can be hurt, and is surely gone at the end."""

from __future__ import annotations

import os
import select
import shutil
import smtplib
import socket
import subprocess
import sys
from contextlib import contextmanager
from signal import SIGKILL, SIGTERM

import psutil
import psycopg
import pytest
import sqlalchemy as sa
from support.processes import ManagedProcess
from support.sink import Sink
from support.waiting import wait_until

BODY = b"Message-ID: <one@example.com>\r\nSubject: hi\r\n\r\n.dotted\r\nend\r\n"
FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("told to stop", flush=True), sys.exit(3)))
for _ in range(2):
    subprocess.Popen([sys.executable, "-c", "import os, time; os.setpgid(0, 0); time.sleep(600)"])
print("ready", flush=True)
time.sleep(600)
"""


def send(sink, *recipients, body=BODY):
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=10) as client:
        return client.sendmail("from@example.com", list(recipients), body)


@contextmanager
def dialogue(sink):
    address = ("127.0.0.1", sink.port)
    with socket.create_connection(address, timeout=10) as client, client.makefile("rb") as replies:
        yield client, replies


def ask(url: str, statement: str) -> object:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return connection.execute(sa.text(statement)).scalar()


# --- the databases -----------------------------------------------------------------------------------------------


def test_every_test_gets_an_empty_migrated_database(database_url):
    assert ask(database_url, "SELECT count(*) FROM mail_reservations") == 0


def test_postgres_comes_back_from_a_crash_with_what_was_committed(private_postgres):
    url = private_postgres.url()
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE kept AS SELECT 42 AS n"))
    for crash in (lambda: private_postgres.restart("immediate"), private_postgres.kill):
        crash()
        private_postgres.start() if private_postgres.process is None else None
        assert ask(url, "SELECT n FROM kept") == 42


def test_a_frozen_postgres_answers_nothing_until_it_is_thawed(private_postgres):
    address = private_postgres.url().replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        private_postgres.freeze()
        connection.pgconn.send_query(b"SELECT 1")
        assert not _readable(connection.pgconn.socket, 0.3)
        private_postgres.thaw()
        assert connection.pgconn.get_result().get_value(0, 0) == b"1"
        assert connection.pgconn.get_result() is None


def _readable(descriptor: int, timeout: float) -> bool:
    return bool(select.select([descriptor], [], [], timeout)[0])


# --- the sink ----------------------------------------------------------------------------------------------------


def test_the_sink_journals_what_it_takes(smtp_sink):
    send(smtp_sink, "to@example.com", "other@example.com")
    (mail,) = smtp_sink.wait_for(1)
    assert mail.message_id == "<one@example.com>"
    assert (mail.sender, mail.recipients) == ("from@example.com", ("to@example.com", "other@example.com"))
    assert mail.size == len(BODY)
    assert smtp_sink.connections() == 1


def test_the_sink_can_keep_the_bytes_without_dot_stuffing(tmp_path):
    with Sink(tmp_path / "keeping", store=True) as sink:
        send(sink, "to@example.com")
        assert sink.raw(sink.wait_for(1)[0]) == BODY


def test_the_sink_refuses_and_defers_by_recipient(tmp_path):
    with Sink(tmp_path / "sink", defer=2) as sink:
        for name, codes in {"refuse-me": [550, 550], "defer-me": [451, 451, None]}.items():
            for code in codes:
                if code is None:
                    send(sink, f"{name}@example.com")
                    continue
                with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                    send(sink, f"{name}@example.com")
                assert refused.value.recipients[f"{name}@example.com"][0] == code
        assert [mail.recipients for mail in sink.accepted()] == [("defer-me@example.com",)]


def test_a_lost_reply_is_a_mail_that_was_taken(smtp_sink):
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(smtp_sink, "lost-1@example.com")
    assert len(smtp_sink.accepted()) == 1


def test_the_sink_serves_pipelined_commands_in_order(smtp_sink):
    with (
        socket.create_connection(("127.0.0.1", smtp_sink.port), timeout=10) as client,
        client.makefile("rb") as replies,
    ):
        client.sendall(
            b"EHLO me\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<refuse-x@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n"
            b"Subject: 1\r\n\r\none\r\n.\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n.\r\nRSET\r\nQUIT\r\n"
        )
        codes = [line[:3] for line in replies if line[3:4] == b" "]
    assert codes == b"220 250 250 550 250 354 250 250 250 354 250 250 221".split()
    assert [mail.size for mail in smtp_sink.accepted()] == [19, 0]


def test_a_body_whose_end_comes_byte_by_byte_is_one_mail(smtp_sink):
    with (
        socket.create_connection(("127.0.0.1", smtp_sink.port), timeout=10) as client,
        client.makefile("rb") as replies,
    ):
        client.sendall(b"HELO me\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n")
        assert [replies.readline()[:3] for _ in range(5)] == b"220 250 250 250 354".split()
        for byte in b"Subject: 1\r\n\r\none\r\n.\r\n":
            client.sendall(bytes([byte]))
        assert replies.readline().startswith(b"250")
    assert [mail.size for mail in smtp_sink.accepted()] == [19]


def test_a_killed_sink_forgets_nothing_and_comes_back_at_its_port(smtp_sink):
    url = smtp_sink.url
    send(smtp_sink, "first@example.com")
    smtp_sink.restart()
    assert smtp_sink.url == url
    send(smtp_sink, "second@example.com")
    assert [mail.recipients[0] for mail in smtp_sink.accepted()] == ["first@example.com", "second@example.com"]


def test_a_frozen_sink_answers_nothing(smtp_sink):
    smtp_sink.freeze()
    with socket.create_connection(("127.0.0.1", smtp_sink.port), timeout=0.3) as client, pytest.raises(TimeoutError):
        client.recv(1)
    smtp_sink.thaw()
    send(smtp_sink, "to@example.com")


# --- the processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def family(tmp_path):
    process = ManagedProcess([sys.executable, "-c", FAMILY], log=tmp_path / "log", env=dict(os.environ), cwd=tmp_path)
    with process:
        process.wait_for_log("ready")
        wait_until(lambda: len(process.children()) == 2, 5, "both children run")
        yield process


def test_a_process_is_told_its_log_waited_for_and_its_status_answered(family):
    mark = family.mark()
    family.signal(SIGTERM)
    assert family.wait_exit(10) == 3
    assert family.wait_for_log("told to stop", since=mark)
    with pytest.raises(AssertionError, match="ended before it said"):
        family.wait_for_log("never")


def test_closing_leaves_no_orphan(family):
    children = family.children()
    family.signal(SIGKILL)
    assert family.wait_exit(10) == -SIGKILL
    assert all(child.is_running() for child in children)
    family.close()
    assert family.members() == []
    wait_until(lambda: not any(child.is_running() for child in children), 5, "the orphans end")


def test_everything_ends_with_the_tests_however_they_end(sqlite_url, tmp_path):
    """A test runner that is killed takes its servers along."""
    program = f"""
import sys, time
from pathlib import Path
sys.path[:0] = {sys.path!r}
from support.postgres import PostgresServer
from support.processes import ManagedProcess
from support.sink import Sink
from support.stack import Stack
from mailbatch.infrastructure.redis import embedded
postgres = PostgresServer(durable=False).__enter__()
redis = embedded.start({str(tmp_path / "redis")!r})
sink = Sink(Path({str(tmp_path / "sink")!r})).__enter__()
worker = ManagedProcess(["sleep", "600"], log=Path({str(tmp_path / "log")!r}), env={{}}, cwd=Path("/"))
stack = Stack({sqlite_url!r}, "redis://127.0.0.1:1", "smtp://127.0.0.1:1", Path({str(tmp_path / "stack")!r}))
forked = stack.process("mailbatch", "serve", "--port", "0")
forked.wait_for_log("serves on")
print(postgres.process.pid, redis.process.pid, sink.process.pid, worker.pid, forked.pid, flush=True)
print(postgres.log.parent, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        pids = [int(pid) for pid in runner.stdout.readline().split()]
        folder = runner.stdout.readline().strip()
        assert len(pids) == 5
        runner.kill()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), 15, "all five end")
    shutil.rmtree(folder)
