"""The stop board: a folder in which a worker posts, as empty files, which tasks must stop.

Celery keeps these facts in the worker's main process, and its pool children cannot read them there. A look at the
folder takes a few microseconds and needs neither broker nor database. One file says that the worker stops, and each
task has one for "revoked" and one for "ended".
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from mailbatch.domain.run import RunOutcome

ENVIRONMENT = "MAILBATCH_STOP_BOARD"
"""Holds the folder's path: forked and spawned children inherit an environment variable alike."""

_PREFIX = "mailbatch-board-"
_SHUTDOWN = "stopping"
_ENDED = "-ended"


def reason_for(task_id: str) -> RunOutcome | None:
    """Return ``REVOKED`` or ``SHUTDOWN`` if the board says so, else None. This takes two system calls."""
    if _is_posted(_revoked(task_id)):
        return RunOutcome.REVOKED
    return RunOutcome.SHUTDOWN if is_shutting_down() else None


def is_shutting_down() -> bool:
    """Return whether the worker has posted that it stops."""
    return _is_posted(_SHUTDOWN)


def has_ended(task_id: str) -> bool:
    """Return whether a task that ran in a pool child while its worker stopped has ended."""
    return _is_posted(_revoked(task_id) + _ENDED)


def post_shutdown() -> None:
    """Post that the worker stops."""
    _post(_SHUTDOWN)


def post_revoke(task_id: str) -> None:
    """Post that a task was revoked."""
    _post(_revoked(task_id))


def post_end(task_id: str) -> None:
    """Post that a task has ended; see ``has_ended``."""
    _post(_revoked(task_id) + _ENDED)


class BoardFolder:
    """The folder, as the worker that makes and removes it sees it. The worker locks it for as long as it lives."""

    def __init__(self) -> None:
        remove_abandoned()
        self._path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _lock(self._path)
        self._owner = os.getpid()
        os.environ[ENVIRONMENT] = str(self._path)

    def keep(self) -> bool:
        """Renew the folder's time, so that cleaners of temporary files leave it alone.

        Returns False if one removed it all the same. It is then made again, and what was posted is lost.
        """
        try:
            os.utime(self._path)
        except FileNotFoundError:
            self._path.mkdir(mode=0o700)
            self._lock = _lock(self._path)
            return False
        return True

    def take_down_revoke(self, task_id: str) -> None:
        """Remove a posted revoke."""
        (self._path / _revoked(task_id)).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder. Pool children inherit the exit handler that calls this; in them it does nothing."""
        if os.getpid() == self._owner:
            shutil.rmtree(self._path, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove the boards of workers that were killed: nobody holds a lock on them any more."""
    for board in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            lock = _lock(board)
        except OSError:
            continue
        shutil.rmtree(board, ignore_errors=True)
        os.close(lock)


def _lock(board: Path) -> int:
    """Lock the folder; pool children share the lock, and end with their parent. Raises ``OSError``."""
    folder = os.open(board, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(folder)
        raise
    return folder


@lru_cache(maxsize=64)
def _revoked(task_id: str) -> str:
    """The name of a task's file; hashed, because the sender of the task chooses the id."""
    return sha256(task_id.encode("utf-8", "surrogatepass")).hexdigest()


def _is_posted(name: str) -> bool:
    board = os.environ.get(ENVIRONMENT)
    return board is not None and os.path.exists(f"{board}/{name}")  # noqa: PTH110 - a Path costs more than the look


def _post(name: str) -> None:
    """Make the file ``name``: two system calls and no lock, because signal handlers call this."""
    board = os.environ.get(ENVIRONMENT)
    if board is None:
        return
    try:
        os.close(os.open(f"{board}/{name}", os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError:
        # The folder was removed, or the disk is full. The worker's next look may repair it; a signal handler must end.
        return
