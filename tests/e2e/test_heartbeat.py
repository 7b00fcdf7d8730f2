"""The heartbeat of real processes, as a probe sees it."""

from __future__ import annotations

import socket
from signal import SIGCONT, SIGSTOP

import pytest
from support.stack import Stack
from support.waiting import wait_until

from mailbatch.infrastructure.system.heartbeat import Heartbeat

BEATS = "4"
"""Seconds: two beats of the worker."""


@pytest.fixture
def watched(sqlite_url, redis_url, tmp_path):
    with Stack(sqlite_url, redis_url, "smtp://localhost:1", tmp_path / "stack") as stack:
        stack.settings["HEARTBEAT_FILE"] = tmp_path / "heartbeat"
        yield stack


def test_a_worker_that_is_frozen_gives_no_sign_of_life_and_one_that_goes_on_does(watched):
    worker = watched.worker("-c", "1")
    assert watched.cli("healthcheck").returncode == 0
    worker.signal(SIGSTOP)
    wait_until(lambda: watched.cli("healthcheck", "--within", BEATS).returncode == 1, 20, "the heart stands still")
    said = watched.cli("healthcheck", "--within", BEATS).stderr
    assert said.startswith("mailbatch: no heartbeat for ")
    worker.signal(SIGCONT)
    wait_until(lambda: watched.cli("healthcheck", "--within", BEATS).returncode == 0, 20, "the heart beats again")


def test_worker_and_beat_live_while_they_wait_for_the_broker(watched):
    watched.settings["BROKER_URL"] = "redis://127.0.0.1:1/0"
    file = watched.settings["HEARTBEAT_FILE"]
    for words in (("worker", "-c", "1"), ("beat",)):
        process = watched.process("celery", "-A", "mailbatch", *words, "--loglevel=INFO")
        process.wait_for_log("(?i)again in", 30)
        file.unlink(missing_ok=True)
        wait_until(file.exists, 10, f"a sign of life of {words[0]} after the broker was missed")
        process.close()


def test_a_beat_alone_gives_a_sign_at_each_look(watched):
    beat = watched.beat()
    beat.wait_for_log("tick: send-all")
    watched.settings["HEARTBEAT_FILE"].unlink()
    wait_until(watched.settings["HEARTBEAT_FILE"].exists, 10, "its next look")


def test_systemd_is_told_of_the_start_and_of_each_beat(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        heartbeat = Heartbeat(None, notify=str(tmp_path / "notify"))
        heartbeat.begin()
        heartbeat.beat()
        assert [systemd.recv(99), systemd.recv(99)] == [b"READY=1\nWATCHDOG=1", b"WATCHDOG=1"]
