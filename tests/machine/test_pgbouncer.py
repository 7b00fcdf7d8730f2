"""Debian's PgBouncer between mailbatch and PostgreSQL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx2
import pytest
from support.api import MAIL, OPERATE
from support.pgbouncer import PgBouncer, find_binary
from support.stack import Stack
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(find_binary() is None, reason="needs PgBouncer: apt install pgbouncer")
MAILS = 300


@pytest.fixture
def pooled(postgres_server, redis_url, smtp_sink, tmp_path) -> Iterator[Callable[..., Stack]]:
    """Makes a stack on an empty database behind a PgBouncer of that mode."""
    name = postgres_server.create_database()
    opened: list[PgBouncer | Stack] = []

    def make(mode: str, query: str = "") -> Stack:
        # In session mode each of our connections has a session for itself.
        bouncer = PgBouncer(postgres_server, mode, size=50 if mode == "session" else 3).__enter__()
        stack = Stack(bouncer.url(name, query), redis_url, smtp_sink.url, tmp_path / "stack").__enter__()
        stack.folder.mkdir()
        opened.extend((bouncer, stack))
        return stack

    yield make
    for one in reversed(opened):
        one.__exit__(None, None, None)
    postgres_server.drop_database(name)


def import_mails(stack: Stack, run: int) -> None:
    rows = (f"u{i}.{run}@example.com,Hello {i},Hello {i}\n" for i in range(MAILS))
    (stack.folder / "m.csv").write_text(f"recipients,subject,body_text\n{''.join(rows)}")
    done = stack.cli("import", "m.csv")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("mode", "query"), [("transaction", "prepare_threshold=none"), ("session", "")])
def test_everything_works_behind_a_pooler(pooled, smtp_sink, mode, query):
    stack = pooled(mode, query)
    assert stack.cli("migrate").returncode == 0
    assert "already" in stack.cli("migrate").stdout
    stack.settings |= {"LANES": 2, "API_TOKEN": OPERATE}
    worker = stack.worker("-B", "--concurrency", "3", "-s", str(stack.folder / "beat"))
    for run in (1, 2):
        import_mails(stack, run)
        report = stack.json("send-all")
        wait_until(lambda: stack.json("list", "--status", "pending", "--limit", "1") == [], 60, "all is sent")
        assert report["outcome"] in {"completed", "skipped"}, report
    assert len(smtp_sink.accepted()) == 2 * MAILS
    checks = {f["check"]: f for f in stack.json("doctor")}
    assert checks["database"]["ok"]
    assert "pooler" in checks["database"]["found"]
    server = stack.process("mailbatch", "serve", "--port", "0")
    address = server.wait_for_log(r"serves on (http://\S+)", 30)[1]
    with httpx2.Client(base_url=address, headers={"Authorization": f"Bearer {OPERATE}"}, timeout=60) as client:
        for _ in range(20):
            assert client.post("/api/reservations", json=MAIL).status_code == 201
            for page in ("/api/reservations", "/api/runs", "/api/status", "/metrics", "/readyz"):
                assert client.get(page).status_code == 200, page
    for process in (worker, server):
        assert "prepared statement" not in process.log_text()
        assert "Traceback" not in process.log_text()


def test_without_the_parameter_every_door_names_it(pooled):
    stack = pooled("transaction", "prepare_threshold=none")
    assert stack.cli("migrate").returncode == 0
    import_mails(stack, 1)
    stack.database_url = stack.database_url.replace("prepare_threshold=none", "prepare_threshold=0")
    said = [stack.cli("list"), stack.cli("send-all", "--here", "--no-lock"), stack.cli("migrate"), stack.cli("status")]
    broken = [done.stderr for done in said if "prepared statement" in done.stderr]
    assert broken, "a pooler that changes sessions breaks some of them"
    for line in broken:
        assert "prepare_threshold=none" in line
        assert "Traceback" not in line
    stack.database_url = stack.database_url.replace("prepare_threshold=0", "prepare_threshold=5")
    found = {f["check"]: f for f in json.loads(stack.cli("doctor", "--json").stdout)}
    assert not found["database"]["ok"]
    assert "prepare_threshold=none" in found["database"]["found"] + found["database"]["advice"]


@pytest.mark.parametrize("command", ["migrate", "list", "doctor"])
def test_statement_mode_is_refused_in_a_line(pooled, command):
    stack = pooled("statement", "prepare_threshold=none")
    done = stack.cli(command)
    [line] = [line for line in (done.stdout + done.stderr).splitlines() if "statement pooling" in line]
    assert done.returncode == 1
    assert "pool_mode = transaction or session" in line
    assert "Traceback" not in done.stderr


def test_a_startup_parameter_that_the_pooler_does_not_know_is_explained(pooled):
    done = pooled("transaction", "prepare_threshold=none&options=-c%20jit%3Doff").cli("migrate")
    assert done.returncode == 1
    assert "unsupported startup parameter" in done.stderr
    assert "ignore_startup_parameters" in done.stderr
