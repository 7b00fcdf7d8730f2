"""Starts ``mailbatch`` and ``celery`` by a fork of a process that has imported the packages that they need.

Importing them costs a second of CPU at each start, and the tests start hundreds of processes. Our own modules are not
among them: each process imports those anew, under its own environment. The server ends with the tests, however those
end, and its children end with it.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPTS = frozenset({"celery", "mailbatch"})
PACKAGES = (
    *("alembic.command", "celery.bin.celery", "celery.apps.worker", "celery.apps.beat", "celery.backends.redis"),
    *("celery.concurrency.prefork", "celery.concurrency.thread", "celery.concurrency.solo", "celery.worker.consumer"),
    *("celery.worker.components", "celery.worker.strategy", "celery.app.trace", "celery.utils.dispatch", "click_repl"),
    *("cronsim", "email_validator", "fastapi", "flower.command", "jinja2.sandbox", "kombu.transport.redis", "psycopg"),
    *("pydantic_settings", "redis", "rich.live", "rich.progress", "rich.table", "sqlalchemy.dialects.postgresql"),
    *("sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite", "structlog", "uvicorn", "xml.etree"),
)
_MOST = 1 << 17
"""Bytes of a request, which is one message: arguments and environment."""


def _of_python(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith("PYTHON") and name != "PYTHONUNBUFFERED"}


_PYTHON = _of_python(os.environ)
"""The settings of Python of the tests, which the server has as well."""


class Forked:
    """A process that the server has started, with the methods of ``Popen`` that the tests call."""

    def __init__(self, pid: int, status: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return its exit status; None while it runs."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit status. Raises ``TimeoutExpired``."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return status

    def _ended(self, timeout: float | None) -> int | None:
        with self._lock:
            if self.returncode is None:
                self._status.settimeout(timeout)
                try:
                    self.returncode = int(self._status.recv(32) or -signal.SIGKILL)
                except (BlockingIOError, TimeoutError):
                    return None
                self._status.close()
        return self.returncode


def can_start(argv: list[str], env: dict[str, str]) -> bool:
    """Return whether the server can start this command: a script of ours, under our own settings of Python."""
    ours = Path(argv[0]).name in SCRIPTS and Path(argv[0]).parent == Path(sys.executable).parent
    return ours and hasattr(os, "pidfd_open") and _of_python(env) == _PYTHON


def start(argv: list[str], *, env: dict[str, str], cwd: Path, files: tuple[int, int, int]) -> Forked:
    """Start a script in a session of its own; ``files`` become its stdin, stdout and stderr."""
    # Packets, because pid and exit status may be read late: a stream would run them together.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = json.dumps({"argv": argv, "env": env, "cwd": str(cwd)}).encode()
    with theirs, _lock:
        socket.send_fds(_server(), [request], [*files, theirs.fileno()])
    return Forked(int(ours.recv(32)), ours)


def run_to_the_end(
    argv: list[str], *, env: dict[str, str], cwd: Path, stdin: str, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end, and return its exit status and output. Raises ``TimeoutExpired``, and kills it."""
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        process = start(argv, env=env, cwd=cwd, files=(given.fileno(), out.fileno(), err.fileno()))
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            raise
        said = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (out, err)]
        return subprocess.CompletedProcess(argv, status, *said)


_lock = threading.Lock()


@cache
def _server() -> socket.socket:
    """Start the server and return the socket that takes requests. It ends when this socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {**os.environ, "C_FORCE_ROOT": "1", "PYTHONUNBUFFERED": "1"}
    with theirs:
        process = subprocess.Popen([sys.executable, __file__], stdin=theirs, env=env, start_new_session=True)
    atexit.register(_end, process, ours)
    return ours


def _end(process: subprocess.Popen[bytes], requests: socket.socket) -> None:
    requests.close()
    process.wait()


# --- the server ---


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Return what to run in the child, and None in the server when nobody asks any more."""
    waiting = selectors.DefaultSelector()
    waiting.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.data is not None:
                waiting.unregister(key.fd)
                _report(key.fd, *key.data)
                continue
            request, files, _, _ = socket.recv_fds(requests, _MOST, 4)
            if not request:
                return None
            pid = os.fork()
            if pid == 0:
                requests.close()
                waiting.close()
                _become(files)
                found: dict[str, Any] = json.loads(request)
                return found
            *given, status = files
            for file in given:
                os.close(file)
            os.write(status, b"%d" % pid)
            waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status))


def _report(descriptor: int, pid: int, status: int) -> None:
    """Write the exit status to whoever started the process."""
    _, how = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        os.write(status, b"%d" % os.waitstatus_to_exitcode(how))
    os.close(status)
    os.close(descriptor)


def _become(files: list[int]) -> None:
    """Lead a session that has these files and no others, and end with the server."""
    server = os.getppid()
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != server:
        os._exit(1)
    os.setsid()
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    os.closerange(3, 1 << 16)


def run(argv: list[str], env: dict[str, str], cwd: str) -> None:
    """Run a script as Python itself would."""
    # Whoever runs the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = argv
    sys.path[0] = str(Path(argv[0]).parent)
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", write_through=True)
    runpy.run_path(argv[0], run_name="__main__")


def main() -> None:
    """Serve until the tests end; in each child run what was asked for."""
    for package in PACKAGES:
        import_module(package)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork has no other threads"
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=os.dup(0)) as requests:
        job = serve(requests)
    if job is not None:
        run(**job)


if __name__ == "__main__":
    main()
