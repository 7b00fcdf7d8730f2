"""Local processes with the interface of Docker containers, so that pytest-celery's nodes run without Docker.

pytest-celery asks of a container what docker-py's ``Container`` offers: these classes offer it for a process, and its
own wrappers, nodes and clusters run unchanged.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pytest_celery import CeleryWorkerContainer, RedisContainer
from support.processes import ManagedProcess

from mailbatch.infrastructure.redis.client import connect
from mailbatch.infrastructure.redis.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Mapping

_STOP = 20.0


class ProcessContainer:
    """One process with the interface of docker-py's container."""

    def __init__(self, name: str) -> None:
        self.id = uuid4().hex
        self.name = f"{name}-{self.id[:6]}"
        self.attrs: dict[str, Any] = {
            "Config": {"Hostname": "127.0.0.1", "Env": []},
            "HostConfig": {"PortBindings": {}},
            "NetworkSettings": {"Networks": {}, "Ports": {}},
        }

    def reload(self) -> None:
        """Do nothing: our state is always current, while Docker's client must read it anew."""


class RedisProcess(ProcessContainer):
    """A private Redis that forgets everything when it is restarted, as the containers of pytest-celery do."""

    def __init__(self) -> None:
        super().__init__("redis")
        self._folder = Path(tempfile.mkdtemp(prefix="redis-", dir="/tmp"))
        self._server = EmbeddedRedis(self._folder, append_only=False)
        self._server.start()

    @property
    def url(self) -> str:
        """Return its URL for Celery."""
        return self._server.url

    @property
    def status(self) -> str:
        """Return the state in Docker's words."""
        process = self._server.process
        return "running" if process is not None and process.poll() is None else "exited"

    def logs(self, **_: Any) -> bytes:
        """Return all of its output."""
        return self._server.log.read_bytes()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal to it."""
        if self._server.process is not None:
            self._server.process.send_signal(_signal(signal))

    def restart(self, timeout: float = _STOP) -> None:
        """Stop and start it; it takes connections when this returns."""
        self._server.restart()

    def remove(self) -> None:
        """Stop it for good."""
        self._server.stop()
        shutil.rmtree(self._folder)


class WorkerProcess(ProcessContainer):
    """A worker. A container dies whole, so SIGKILL takes its children along; any other signal goes to PID 1 only."""

    def __init__(self, argv: list[str], env: Mapping[str, str], folder: Path) -> None:
        super().__init__("worker")
        self.process = ManagedProcess(argv, log=folder / f"{self.name}.log", env=env, cwd=folder)
        self._env, self._folder = env, folder

    @property
    def status(self) -> str:
        """Return the state in Docker's words."""
        return "running" if self.process.running else "exited"

    def logs(self, **_: Any) -> bytes:
        """Return all of its output, including that before a restart."""
        return self.process.log.read_bytes()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal to it."""
        number = _signal(signal)
        if number == SIGKILL:
            self.process.close()
        else:
            self.process.signal(number)

    def restart(self, timeout: float = _STOP) -> None:
        """Stop it warmly and start it again; it takes tasks when this returns."""
        self.stop(timeout)
        mark = self.process.mark()
        self.process.start()
        # The log still says "ready" from before: the wrapper would take that for an answer.
        self.process.wait_for_log(r"\bready\.", 30, since=mark)

    def stop(self, timeout: float = _STOP) -> int:
        """Stop it warmly and return its exit status."""
        if self.process.running:
            self.process.signal(SIGTERM)
        return self.process.wait_exit(timeout)

    def exec_run(self, cmd: str, **_: Any) -> tuple[int, bytes]:
        """Run a shell command in its environment; return exit status and output."""
        done = subprocess.run(  # noqa: S602 - Docker's own interface takes a line for the shell
            cmd, shell=True, env=dict(self._env), cwd=self._folder, capture_output=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def remove(self) -> None:
        """Kill what is left of it."""
        self.process.close()


class LocalRedisContainer(RedisContainer):  # type: ignore[misc]
    """pytest-celery's Redis on a Unix socket: workers share our network."""

    @classmethod
    def launch(cls) -> LocalRedisContainer:
        """Start one."""
        return cls(RedisProcess())

    def ready(self) -> bool:
        """Return whether it takes connections. Its log does not tell: Redis and Valkey word it differently."""
        with connect(self.url) as client:
            return bool(client.ping())

    @property
    def port(self) -> int:
        """Return 0: it listens on a socket."""
        return 0

    @property
    def url(self) -> str:
        """Return the URL for workers."""
        return str(self._container.url)

    @property
    def host_url(self) -> str:
        """Return the URL for the tests."""
        return self.url

    def teardown(self) -> None:
        """Stop it for good."""
        self._container.remove()


class MailbatchWorkerContainer(CeleryWorkerContainer):  # type: ignore[misc]
    """A worker of the real app, as a process or a container."""

    @classmethod
    def worker_queue(cls) -> str:
        """Return the queue that mailbatch uses."""
        return "mailbatch"

    @classmethod
    def command(cls, *args: str, **_: Any) -> list[str]:
        """Return the command ``celery -A mailbatch worker …``."""
        name = f"{cls.worker_name()}@%h"
        return ["celery", "-A", "mailbatch", "worker", f"--loglevel={cls.log_level()}", "-n", name, *args]


class LocalWorkerContainer(MailbatchWorkerContainer):
    """A worker as a local process."""

    @classmethod
    def launch(cls, env: Mapping[str, str], folder: Path, *args: str) -> LocalWorkerContainer:
        """Start one with the scripts beside this interpreter."""
        celery, *rest = cls.command(*args)
        return cls(WorkerProcess([str(Path(sys.executable).with_name(celery)), *rest], env, folder))

    @property
    def process(self) -> ManagedProcess:
        """Return the process."""
        process: ManagedProcess = self._container.process
        return process

    def teardown(self) -> None:
        """Kill what is left of it."""
        self._container.remove()


class DockerWorkerContainer(MailbatchWorkerContainer):
    """A worker from our own image. It shares the host's network, and so has no address of its own to wait for."""

    def ready(self) -> bool:
        """Return whether it takes tasks."""
        self._container.reload()
        return bool(self.status == "running" and self.ready_prompt in self.logs())


def _signal(signal: str | int) -> Signals:
    return Signals[signal] if isinstance(signal, str) else Signals(signal)
