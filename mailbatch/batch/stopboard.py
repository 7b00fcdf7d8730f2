"""Tells a running task that it was revoked, or that its worker is stopping, whatever pool it runs in.

Celery keeps both facts in the worker's main process. The step ``StopBoard`` mirrors them into a folder, one empty file
for each fact, and ``stop_reason`` looks there between two items: a few microseconds, no broker, no database.

Signals to a pool child, measured on Celery 5.7 with prefork (tests/e2e/test_celery_stop.py):

- A service manager may send SIGTERM to the whole group, children too (systemd's ``KillMode=control-group``). By
  Celery's rule a child then dies in the middle of a mail, whose end nobody knows. So from its first ``stop_reason`` on
  a task takes the first SIGTERM as a request to stop between two mails. Ignoring SIGTERM for good (as
  ``REMAP_SIGTERM`` does) is not the answer: a child must still leave when it is idle.
- ``revoke --terminate`` is the same signal, and so ends such a task as softly as a revoke does. Other tasks, which
  never ask ``stop_reason``, die of it as always.
- A second SIGTERM, the cold shutdown's for one, ends the child at once; so do SIGQUIT and SIGKILL.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import signal
import tempfile
import threading
import time
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from celery.utils.functional import maybe_list
from celery.worker import state

from mailbatch.domain.run import RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

ENVIRONMENT = "MAILBATCH_STOP_BOARD"
"""Where a pool child finds the board; an environment variable reaches forked and spawned children alike."""
INTERVAL = 0.25
"""Seconds between two looks at what was revoked."""

LOOK_EVERY = 0.01
"""Seconds between two looks of a task at its board: mails that take a round trip each find it looked at for each."""

_PREFIX = "mailbatch-board-"
_STOPPING = "stopping"
_ENDED = "-ended"
_KEPT = 60.0
"""Seconds for which a revoke stays on the board after its task has left the list of active ones."""
_REASON_WAIT = 0.6
"""Seconds that a child told by SIGTERM waits for the board to say why: a revoke, or else a shutdown."""


# --- the task's side ---------------------------------------------------------------------------------------------


def stop_reason(request: Any) -> RunOutcome | None:
    """Why the task of this Celery ``request`` must stop: ``REVOKED``, ``SHUTDOWN``, or None to go on.

    Cheap enough to be asked before each mail. Asked first in the main thread of a pool child, it makes the task safe
    from SIGTERM until its end.
    """
    _child.heed_sigterm(request.id)
    if request.id in state.revoked:
        return RunOutcome.REVOKED
    if state.should_stop is not None or state.should_terminate is not None:
        return RunOutcome.SHUTDOWN
    if reason := _looked(request.id):
        return reason
    if _child.told == request.id:
        return _reason_of_sigterm(request.id)
    # Where the system does not end children with their parent (PR_SET_PDEATHSIG is Linux's), they end themselves.
    if _child.parent is not None and os.getppid() != _child.parent:
        return RunOutcome.SHUTDOWN
    return None


_last_look: tuple[str, float] = ("", 0.0)


def _looked(task_id: str) -> RunOutcome | None:
    """Look at the board, unless that was just done: two system calls for each mail were a tenth of what it costs."""
    global _last_look  # noqa: PLW0603 - as with the board itself, a process has one
    last, at = _last_look
    now = time.monotonic()
    if last == task_id and now - at < LOOK_EVERY:
        return None
    _last_look = (task_id, now)
    return _on_the_board(task_id)


def _on_the_board(task_id: str) -> RunOutcome | None:
    board = os.environ.get(ENVIRONMENT)
    if board is None:
        return None
    if os.path.exists(f"{board}/{_file_of(task_id)}"):  # noqa: PTH110 - a Path costs more than the look
        return RunOutcome.REVOKED
    if os.path.exists(f"{board}/{_STOPPING}"):  # noqa: PTH110
        return RunOutcome.SHUTDOWN
    return None


def _reason_of_sigterm(task_id: str) -> RunOutcome:
    deadline = time.monotonic() + _REASON_WAIT
    while time.monotonic() < deadline:
        if reason := _on_the_board(task_id):
            return reason
        time.sleep(0.02)
    return RunOutcome.SHUTDOWN


@lru_cache(maxsize=64)
def _file_of(task_id: str) -> str:
    """A safe file name: the sender chose the id."""
    return sha256(task_id.encode("utf-8", "surrogatepass")).hexdigest()


class _Child:
    """What a pool child knows of itself. ``told``: the task that was asked to stop by SIGTERM."""

    def __init__(self) -> None:
        self.parent: int | None = None
        self.told: str | None = None
        self._heeding: str | None = None
        self._before: Callable[[int, FrameType | None], Any] | None = None

    def heed_sigterm(self, task_id: str) -> None:
        """From now to the end of this task, take a first SIGTERM as a request to stop soon."""
        if self.parent is None or self._heeding == task_id or threading.current_thread() is not threading.main_thread():
            return
        self._heeding = task_id
        before = signal.getsignal(signal.SIGTERM)
        # With REMAP_SIGTERM it is ignored: then nothing can hurt.
        if callable(before):
            self._before = before
            signal.signal(signal.SIGTERM, self._stop_soon)

    def _stop_soon(self, _number: int, _frame: FrameType | None) -> None:
        self.told = self._heeding
        signal.signal(signal.SIGTERM, self._before)

    def forget(self) -> None:
        """The task is over: SIGTERM is again what it was."""
        self._heeding = self.told = None
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None


_child = _Child()


def _know_the_parent(**_: Any) -> None:
    _child.parent = os.getppid()


signals.worker_process_init.connect(_know_the_parent)


def has_ended(task_id: str) -> bool:
    """Whether a task that ran in a pool child while its worker stopped has ended."""
    return _is_posted(_file_of(task_id) + _ENDED)


def _is_posted(name: str) -> bool:
    board = os.environ.get(ENVIRONMENT)
    return board is not None and os.path.exists(f"{board}/{name}")  # noqa: PTH110 - as above


def _forget_the_task(task_id: str | None = None, **_: Any) -> None:
    if _child.parent is None:
        return
    _child.forget()
    if task_id is not None and _is_posted(_STOPPING):
        # A worker that waits for its tasks in a signal handler reads no results.
        _post(_file_of(task_id) + _ENDED)


signals.task_postrun.connect(_forget_the_task)


# --- the worker's side -------------------------------------------------------------------------------------------


class StopBoard(bootsteps.StartStopStep):  # type: ignore[misc]
    """Puts on the board which of the running tasks are revoked, and that the worker stops."""

    requires = {"celery.worker.components:Timer"}  # noqa: RUF012 - Celery's way

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        prune()
        self._posted: dict[str, float] = {}
        self._board = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _lock(self._board)
        os.environ[ENVIRONMENT] = str(self._board)
        # Not in stop(): a cold shutdown skips it.
        atexit.register(self._remove, os.getpid())
        signals.task_revoked.connect(self._post_terminated)

    def start(self, worker: Any) -> None:
        """Begin to look."""
        worker.timer.call_repeatedly(INTERVAL, self._look)

    def close(self, _worker: Any) -> None:
        """Say that the worker stops; `control shutdown` and a broken consumer send no signal, but close the steps."""
        _post(_STOPPING)

    def stop(self, _worker: Any) -> None:
        """Go on looking while the pool finishes its tasks."""

    terminate = stop

    def _look(self) -> None:
        self._keep()
        active = {request.id: request for request in tuple(state.active_requests)}
        for task_id, request in active.items():
            if task_id not in self._posted and _is_revoked(request):
                self._post_revoke(task_id)
        self._take_down(set(active))

    def _post_terminated(self, request: Any, terminated: bool, **_: Any) -> None:  # noqa: FBT001 - Celery's signal
        """`revoke --terminate` takes the task from the active ones before a look could see it there."""
        if terminated:
            self._post_revoke(request.id)

    def _post_revoke(self, task_id: str) -> None:
        self._posted[task_id] = time.monotonic()
        _post(_file_of(task_id))

    def _take_down(self, active: set[str]) -> None:
        old = time.monotonic() - _KEPT
        for task_id in [task_id for task_id, at in self._posted.items() if at < old and task_id not in active]:
            del self._posted[task_id]
            (self._board / _file_of(task_id)).unlink(missing_ok=True)

    def _keep(self) -> None:
        """Keep cleaners of temporary files away; if one came all the same, begin anew."""
        try:
            os.utime(self._board)
        except FileNotFoundError:
            self._board.mkdir(mode=0o700)
            self._lock = _lock(self._board)
            self._posted.clear()

    def _remove(self, pid: int) -> None:
        # Pool children inherit this duty and must not do it.
        if os.getpid() == pid:
            shutil.rmtree(self._board, ignore_errors=True)


def prune() -> None:
    """Remove the boards of workers that were killed. A living one holds a lock on its board."""
    for board in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            lock = _lock(board)
        except OSError:
            continue
        shutil.rmtree(board, ignore_errors=True)
        os.close(lock)


def _lock(board: Path) -> int:
    """Lock the folder; its pool children share the lock, and end with their parent. Raises ``OSError``."""
    folder = os.open(board, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(folder)
        raise
    return folder


def _is_revoked(request: Any) -> bool:
    """By its id, or by a stamp (`control revoke_by_stamped_headers`)."""
    if request.id in state.revoked:
        return True
    return any(
        set(maybe_list(value) or ()) & set(maybe_list(state.revoked_stamps.get(header)) or ())
        for header, value in (request.stamps or {}).items()
    )


def _post(name: str) -> None:
    """Put ``name`` on the board: two system calls and no lock, for it is called in signal handlers."""
    board = os.environ.get(ENVIRONMENT)
    if board is None:
        return
    try:
        os.close(os.open(f"{board}/{name}", os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError:
        # Swept away or a full disk: the next look mends what can be mended. A signal handler must come to its end.
        return


def _post_the_shutdown(**_: Any) -> None:
    _post(_STOPPING)


signals.worker_shutting_down.connect(_post_the_shutdown)


def _post_before_the_soft_shutdown(**_: Any) -> None:
    """Have SIGTERM and SIGQUIT say so at once; Celery's ``worker_shutting_down`` comes after a soft shutdown's wait."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGQUIT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, _posting(handler))


signals.worker_ready.connect(_post_before_the_soft_shutdown)


def _posting(handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], Any]:
    if getattr(handler, "posts", False):  # worker_ready comes again after each lost connection
        return handler

    def post(number: int, frame: FrameType | None) -> Any:
        _post(_STOPPING)
        return handler(number, frame)

    post.posts = True  # type: ignore[attr-defined]
    return post
