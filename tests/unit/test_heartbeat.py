"""Heartbeats: written while a worker lives, and no more when its loop is stuck."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from celery import bootsteps
from click.testing import CliRunner
from support.fake_clock import FakeClock

from mailbatch.batch.heartbeat import STUCK, LivenessProbe
from mailbatch.infrastructure.system.heartbeat import Heartbeat
from mailbatch.interfaces.cli.main import cli


def worker(*, connected: bool = True, state: int = bootsteps.RUN) -> SimpleNamespace:
    connection = object() if connected else None
    return SimpleNamespace(consumer=SimpleNamespace(connection=connection), blueprint=SimpleNamespace(state=state))


@pytest.mark.parametrize(
    ("of", "alive"),
    [(worker(), False), (worker(connected=False), True), (worker(state=bootsteps.CLOSE), True)],
    ids=["that should turn", "that waits for its broker", "that stops"],
)
def test_a_loop_that_does_not_turn_is_stuck_unless_it_has_a_reason(of, alive):
    clock = FakeClock()
    probe = LivenessProbe(clock.monotonic)
    clock.sleep(STUCK - 1)
    assert probe.is_alive(of)
    clock.sleep(2)
    assert probe.is_alive(of) is alive
    probe.loop_turned()
    assert probe.is_alive(of)


def test_a_heartbeat_that_cannot_be_written_is_logged_once(tmp_path, caplog):
    heartbeat = Heartbeat(tmp_path / "gone" / "file", notify=None)
    heartbeat.begin()
    heartbeat.beat()
    (line,) = caplog.messages
    assert line.startswith("no sign of life can be given: ")


def test_the_check_tells_fresh_from_stale_from_missing(tmp_path, monkeypatch):
    file = tmp_path / "heartbeat"
    monkeypatch.setenv("MAILBATCH_HEARTBEAT_FILE", str(file))

    def check(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["healthcheck", *words])
        return done.exit_code, done.output

    assert check() == (1, f"Error: no heartbeat: there is no {file}\n")
    Heartbeat(file, notify=None).begin()
    assert check()[0] == 0
    os.utime(file, (0, file.stat().st_mtime - 70))
    assert check()[0] == 1
    assert check("--within", "90")[0] == 0
    monkeypatch.delenv("MAILBATCH_HEARTBEAT_FILE")
    assert check()[0] == 2
