"""The live screen: what it shows, and how it leaves the terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import sqlalchemy as sa
from support.backlogs import database, reserve
from support.waiting import wait_until

from mailbatch.infrastructure.db.tables import batch_runs, run_errors
from mailbatch.infrastructure.db.types import now
from mailbatch.infrastructure.redis.client import connect
from mailbatch.infrastructure.redis.keys import Keys
from mailbatch.infrastructure.redis.status import RedisStatusBoard
from mailbatch.interfaces.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def top(
    sqlite_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[], str]:
    for name in [name for name in os.environ if name.startswith("MAILBATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MAILBATCH_REDIS_URL", redis_url)
    monkeypatch.setenv("COLUMNS", "80")

    def frame() -> str:
        assert main.run(["top"]) == 0
        return capfd.readouterr().out

    return frame


def test_an_idle_house_is_told_in_a_frame(top, sqlite_url):
    reserve(sqlite_url, 3, scheduled_at=datetime.now(UTC) - timedelta(hours=3))
    frame = top()
    assert "3 due, the oldest for 3 h" in frame
    assert "no run now; the next is not known: no beat has run yet" in frame
    assert "pending 3" in frame


def test_the_run_in_progress_is_shown_with_its_rate_and_what_is_left(top, sqlite_url, redis_url):
    reserve(sqlite_url, 100)
    run_id = uuid4()
    with database(sqlite_url) as connection:
        # Ahead of us it is alive, however busy we are.
        row = {"run_id": run_id, "job": "send-all", "trigger": "beat", "heartbeat_at": now(30)}
        connection.execute(sa.insert(batch_runs).values(row))
    with connect(redis_url) as client:
        RedisStatusBoard(client, Keys()).put(
            "send-all", {"run_id": str(run_id), "sent": 300, "failed": 0, "elapsed": 10.0}
        )
        frame = top()
    assert "300 of 400, 30/s, 3 s to go" in frame
    assert f"{'█' * 30}{'░' * 10}" in frame


def test_runs_stand_below_and_no_address_in_their_errors(top, sqlite_url):
    run_id = uuid4()
    with database(sqlite_url) as connection:
        row = {"run_id": run_id, "job": "send-all", "trigger": "beat", "outcome": "completed", "sent": 1500}
        connection.execute(sa.insert(batch_runs).values(**row, failed=1, finished_at=now(), duration=2.0))
        row = {"run_id": run_id, "item_index": 7, "errors": ["550 no such user <ada@example.com>"]}
        connection.execute(sa.insert(run_errors).values(**row, reservation_id=uuid4()))
    frame = top()
    [line] = [line for line in frame.splitlines() if "completed" in line]
    assert line.split()[-6:] == ["completed", "2.0", "1,500", "750/s", "1", "failed"]
    assert "[error]Index:7," in frame
    assert "ada@" not in frame
    assert all(len(line) <= 80 for line in frame.splitlines())


@pytest.mark.parametrize("ends", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_the_terminal_is_left_as_it_was_found(sqlite_url, redis_url, tmp_path, ends):
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("MAILBATCH_")},
        "MAILBATCH_DATABASE_URL": sqlite_url,
        "MAILBATCH_REDIS_URL": redis_url,
    }
    argv = [sys.executable, "-m", "mailbatch.interfaces.cli.main", "top", "--interval", "0.2"]
    # A session of its own with this terminal: Ctrl-C typed there is the signal. A shell that runs the tests in the
    # background makes them ignore it.
    script = (
        "import fcntl, os, signal, termios; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        f"os.execv({sys.executable!r}, {argv!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=env, cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal
    )
    seen = bytearray()
    os.set_blocking(master, False)

    def read() -> bytes:
        try:
            seen.extend(os.read(master, 65536))
        except BlockingIOError:
            time.sleep(0.01)
        return bytes(seen)

    wait_until(lambda: read().count(b"\x1b[H") >= 2, 20, lambda: f"two frames: {bytes(seen)!r}")
    os.write(master, ends)
    wait_until(lambda: read() is not None and process.poll() is not None, 10, "the end of top")
    assert process.returncode == (0 if ends == b"q" else 130)
    assert read().count(b"\x1b[?1049h") == read().count(b"\x1b[?1049l") == 1
    assert termios.tcgetattr(terminal) == before
    os.close(master)
    os.close(terminal)


def test_without_redis_all_else_is_shown(top, sqlite_url, monkeypatch):
    monkeypatch.setenv("MAILBATCH_REDIS_URL", "redis://127.0.0.1:1/0")
    reserve(sqlite_url, 3)
    frame = top()
    assert "3 due" in frame
    assert "error: no run can begin: Redis at 127.0.0.1:1 cannot be asked" in frame


def test_without_a_terminal_a_database_that_is_away_is_a_failure(top, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", f"sqlite:///{tmp_path}/nowhere/x.db")
    assert main.run(["top"]) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
