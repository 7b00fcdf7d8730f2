"""A private mailbatch in one folder: Redis, a SQLite file, a local inbox and a real worker."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Self

import click

from mailbatch import config
from mailbatch.infrastructure.redis import embedded
from mailbatch.infrastructure.redis.parent_death import ending_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

MARK = ".mailbatch-demo"
"""The file that marks a folder as ours to delete; the user of the folder holds its lock."""
_OTHERS = (config.PREFIX, "CELERY_", "FLOWER_")
"""The caller's variables that are removed: a demo must never touch a real database, broker or relay."""
_NO_ROOT_WARNING = "ignore:You're running the worker with superuser privileges"
_SERVES = re.compile(r"mailbatch serves on http://\S+:(\d+) ")
_CONSOLE, _POLL = 60.0, 0.1
"""Seconds that the console has to start, and between two checks."""
_STOP = 4.0
"""Seconds that a child has to end: a worker stops between two mails."""
_PAGES = 30.0
"""Seconds that the inbox has to end: it writes the pages of a thousand mails, which takes long on a busy machine."""


class LocalStack:
    """Everything that mailbatch needs, in ``folder``, which is emptied first; ``settings`` without their prefix.

    A context manager: on entry it starts Redis and the inbox, and sets the environment of this process. At the end all
    children have ended, also if this process is killed. Use it from the main thread.
    Raises ``click.ClickException`` and ``EmbeddedRedisError`` with a line that says what to do.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        self.folder = folder.absolute()
        self.settings = {name: str(value) for name, value in settings.items()}
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        """The child processes, by the name that messages use."""
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as ends:
            ends.callback(claim(self.folder).close)
            redis = ends.enter_context(embedded.start(self.folder / "redis", append_only=False))
            if redis.process is not None:
                self.children["redis-server"] = redis.process
            listener = ends.enter_context(_free_port())
            os.environ.update(self._make_environment(redis.url, listener.getsockname()[1]))
            ends.callback(self._stop, "inbox", _PAGES)
            self._start_inbox(listener)
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ends.close()

    @property
    def inbox(self) -> Path:
        """The folder of the mails."""
        return self.folder / "inbox"

    @property
    def worker_log(self) -> Path:
        """The log of the worker."""
        return self.folder / "worker.log"

    @property
    def exports(self) -> str:
        """Return shell lines that make every command use this stack."""
        ours = {name: value for name, value in os.environ.items() if name.startswith(config.PREFIX)}
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(ours.items()))

    def start_worker(self) -> None:
        """Start ``celery -A mailbatch worker -B -c 2``."""
        words = (sys.executable, "-m", "celery", "-A", "mailbatch", "worker", "-B", "-c", "2")
        self._ends.callback(self._stop, "worker")
        with self.worker_log.open("ab") as log:
            self._start("worker", words, log)

    @property
    def console_log(self) -> Path:
        """The log of ``mailbatch serve``."""
        return self.folder / "console.log"

    def start_console(self) -> str:
        """Start ``mailbatch serve``; return its address. Raises ``click.ClickException`` if it does not come up."""
        words = (sys.executable, "-m", "mailbatch.interfaces.cli.main", "serve", "--port", "0")
        self._ends.callback(self._stop, "console")
        with self.console_log.open("ab") as log:
            self._start("console", words, log)
        until = time.monotonic() + _CONSOLE
        while time.monotonic() < until and self.children["console"].poll() is None:
            said = self.console_log.read_text(encoding="utf-8", errors="replace")
            if found := _SERVES.search(said):
                return f"http://localhost:{found[1]}"
            time.sleep(_POLL)
        raise click.ClickException(f"the console did not start; its log: {self.console_log}")

    def run(self, *words: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
        """Run ``mailbatch …`` on this stack; its output goes to ours unless ``capture``."""
        sys.stdout.flush()
        return subprocess.run(  # noqa: S603 - our own command line
            ending_with_parent([sys.executable, "-m", "mailbatch.interfaces.cli.main", *words]),
            stdin=subprocess.DEVNULL,
            capture_output=capture,
            text=True,
            encoding="utf-8",
            check=False,
        )

    def dead(self) -> str | None:
        """Return the name of a child process that has ended unexpectedly, or None."""
        return next((name for name, child in self.children.items() if child.poll() is not None), None)

    def _make_environment(self, redis_url: str, smtp_port: int) -> dict[str, str]:
        for name in [name for name in os.environ if name.startswith(_OTHERS)]:
            del os.environ[name]
        settings = {
            "DATABASE_URL": f"sqlite:///{self.folder / 'mailbatch.db'}",
            "REDIS_URL": redis_url,
            "SMTP_URL": f"smtp://127.0.0.1:{smtp_port}",
            **self.settings,
        }
        environment = {config.PREFIX + name: value for name, value in settings.items()}
        if os.geteuid() == 0:
            # Celery's warning about root is meant for workers that take tasks from other people.
            given = os.environ.get("PYTHONWARNINGS")
            environment["PYTHONWARNINGS"] = f"{given},{_NO_ROOT_WARNING}" if given else _NO_ROOT_WARNING
        return environment

    def _start_inbox(self, listener: socket.socket) -> None:
        self.inbox.mkdir()
        words = (sys.executable, "-m", "mailbatch.interfaces.cli.inbox", str(listener.fileno()), str(self.inbox))
        with (self.folder / "inbox.log").open("ab") as log:
            self._start("inbox", words, log, listener.fileno())

    def _start(self, name: str, words: Sequence[str], log: IO[bytes], *descriptors: int) -> None:
        self.children[name] = subprocess.Popen(  # noqa: S603 - our own command line
            # If we are killed, all end at once: a worker that ends gracefully would wait for Redis, which is gone too.
            ending_with_parent(list(words), at_parents_end=signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Not the caller's folder: a celeryconfig.py there would override our settings.
            cwd=self.folder,
            pass_fds=descriptors,
            # A session of its own: Ctrl-C reaches only us, and we end the children in order.
            start_new_session=True,
        )

    def _stop(self, name: str, within: float = _STOP) -> None:
        """End a child with SIGTERM, so that it finishes its work; kill it and its children after ``within`` seconds."""
        child = self.children.pop(name, None)
        if child is None:
            return
        child.terminate()
        try:
            child.wait(within)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        # Usually no process is left to kill.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def claim(folder: Path) -> IO[str]:
    """Empty and mark ``folder``; return the file that holds the lock on it until it is closed.

    Raises ``click.ClickException`` if it has files that are not ours, or if it is in use.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    if not mark.exists() and any(folder.iterdir()):
        raise click.ClickException(f"{folder} is not empty and no demo made it; name another with --folder")
    lock = mark.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise click.ClickException(
            f"a demo is running in {folder}; end it first, or name another with --folder"
        ) from None
    for entry in folder.iterdir():
        if entry == mark:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return lock


def require_inbox() -> None:
    """Raise ``click.ClickException`` if the packages of the inbox are not installed."""
    if find_spec("aiosmtpd") is None:
        raise click.ClickException("the local inbox needs aiosmtpd; install it: pip install 'mailbatch[embedded]'")


def _free_port() -> socket.socket:
    """Return a listening socket on the loopback interface: an early client waits and is not refused."""
    return socket.create_server(("127.0.0.1", 0), backlog=128)
