"""Real processes under test: started in a session of their own, watched by their log, and surely gone at the end."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, Signals
from typing import TYPE_CHECKING, Self

import psutil
from support import forkserver
from support.waiting import PATIENCE, wait_until

from mailbatch.infrastructure.redis.parent_death import ending_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType


class ManagedProcess:
    """A process that leads a session and appends to ``log``; at the end it is killed with all its descendants.

    It also ends with the tests themselves, however those end.
    """

    def __init__(self, argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> None:
        self.argv = list(argv)
        self.log = log
        self._env = dict(env)
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | forkserver.Forked | None = None
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start it, or start it again with the same arguments."""
        with self.log.open("ab") as log, Path(os.devnull).open("rb") as nothing:
            if forkserver.can_start(self.argv, self._env):
                files = (nothing.fileno(), log.fileno(), log.fileno())
                self._process = forkserver.start(self.argv, env=self._env, cwd=self._cwd, files=files)
                return
            self._process = subprocess.Popen(
                ending_with_parent(self.argv, at_parents_end=SIGKILL),
                stdin=nothing,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Return its process id, which is also that of its session and of its process group."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Return whether the process itself has not ended."""
        return self._process is not None and self._process.poll() is None

    def children(self) -> list[psutil.Process]:
        """Return all its descendants."""
        return list(psutil.Process(self.pid).children(recursive=True))

    def members(self) -> list[int]:
        """Return all running processes of its session, orphans included."""
        return [pid for pid in psutil.pids() if _session_of(pid) == self.pid and _is_alive(pid)]

    def mark(self) -> int:
        """Return the end of the log. Pass it to ``wait_for_log`` to see only later lines."""
        return self.log.stat().st_size

    def log_text(self, since: int = 0) -> str:
        """Return its output from the mark ``since`` on."""
        with self.log.open("rb") as log:
            log.seek(since)
            return log.read().decode("utf-8", "replace")

    def wait_for_log(self, pattern: str, timeout: float = 20.0, *, since: int = 0) -> re.Match[str]:
        """Wait until the regular expression ``pattern`` matches the log; fail at once if the process has ended."""
        wanted = re.compile(pattern)

        def look() -> re.Match[str] | None:
            alive = self.running
            found = wanted.search(self.log_text(since))
            assert found or alive, f"the process ended before it said {pattern!r}:\n{self.log_text(since)[-4000:]}"
            return found

        return wait_until(look, timeout, lambda: f"the log says {pattern!r}; it says:\n{self.log_text(since)[-4000:]}")

    def signal(self, number: Signals) -> None:
        """Send a signal to the process, not to its children."""
        os.kill(self.pid, number)

    def kill_group(self, number: Signals = SIGKILL) -> None:
        """Send a signal to its whole process group, as a terminal or a supervisor does."""
        os.killpg(self.pid, number)

    def wait_exit(self, timeout: float = 20.0) -> int:
        """Wait until it has ended; return its exit status (negative: the signal that ended it)."""
        assert self._process is not None
        timeout = max(timeout, PATIENCE)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the process has not ended within {timeout:g} s; it says:\n{self.log_text()[-4000:]}"
            ) from None

    def close(self) -> None:
        """Kill every process of its session that still runs."""
        if self._process is None:
            return

        def is_empty() -> bool:
            for pid in self.members():
                _kill(pid)
            return self._process is None or (self._process.poll() is not None and not self.members())

        wait_until(is_empty, 10, "every process of the session ends")
        self._process.wait()


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, SIGKILL)
    except ProcessLookupError:
        return


def children_with(word: str, pid: int | None = None, *, recursive: bool = False) -> list[psutil.Process]:
    """Return the children of ``pid``, or of this process, that have ``word`` in their command line.

    A child that ends meanwhile, or has ended and was not waited for, is none of them.
    """
    found = []
    for process in psutil.Process(pid).children(recursive=recursive):
        with suppress(psutil.Error):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found
