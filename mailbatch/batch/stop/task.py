"""The task's side of a stop: ``stop_reason``, and what a SIGTERM to a pool child means.

Signals to a pool child, measured on Celery 5.7 with prefork (tests/e2e/test_celery_stop.py):

- A service manager may send SIGTERM to the whole group, children too (systemd's ``KillMode=control-group``). By
  default a Celery child then dies in the middle of a mail, and nobody knows whether the relay took that mail. So once a
  task has called ``stop_reason``, its first SIGTERM is a request to stop between two mails. SIGTERM cannot be ignored
  for good (as ``REMAP_SIGTERM`` does), because an idle child must still end.
- ``revoke --terminate`` sends the same signal, and so ends such a task as softly as a revoke does. Tasks that never
  call ``stop_reason`` die of it as always.
- A second SIGTERM, for example of the cold shutdown, ends the child at once; so do SIGQUIT and SIGKILL.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.worker import state

from mailbatch.batch.stop import board
from mailbatch.domain.run import RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

LOOK_EVERY = 0.01
"""Seconds between two looks of a task at the board. With a distant relay a mail takes longer: a look before each."""

_REASON_WAIT = 0.6
"""Seconds after a SIGTERM in which the board may still say "revoked"; after them the reason is a shutdown."""


def stop_reason(request: Any) -> RunOutcome | None:
    """Return why the task of this Celery ``request`` must stop: ``REVOKED``, ``SHUTDOWN``, or None to go on.

    Works in every pool, and is cheap enough to be called before each mail. The first call, in the main thread of a pool
    child, protects the task from SIGTERM until its end.
    """
    _child.defer_sigterm(request.id)
    if request.id in state.revoked:
        return RunOutcome.REVOKED
    if state.should_stop is not None or state.should_terminate is not None:
        return RunOutcome.SHUTDOWN
    if reason := _reason_on_board(request.id):
        return reason
    if _child.terminated_task == request.id:
        return _reason_for_sigterm(request.id)
    # Where the system does not end children with their parent (PR_SET_PDEATHSIG is Linux's), they end themselves.
    if _child.parent is not None and os.getppid() != _child.parent:
        return RunOutcome.SHUTDOWN
    return None


_last_look: tuple[str, float] = ("", 0.0)


def _reason_on_board(task_id: str) -> RunOutcome | None:
    """Look at the board, at most every ``LOOK_EVERY`` seconds: a look costs a tenth of what a mail costs."""
    global _last_look  # noqa: PLW0603 - as with the board itself, a process has one
    last, at = _last_look
    now = time.monotonic()
    if last == task_id and now - at < LOOK_EVERY:
        return None
    _last_look = (task_id, now)
    return board.reason_for(task_id)


def _reason_for_sigterm(task_id: str) -> RunOutcome:
    """Wait a moment, because the signal of ``revoke --terminate`` may come before the worker has posted the revoke."""
    deadline = time.monotonic() + _REASON_WAIT
    while time.monotonic() < deadline:
        if reason := board.reason_for(task_id):
            return reason
        time.sleep(0.02)
    return RunOutcome.SHUTDOWN


class _PoolChild:
    """This process as a pool child. ``terminated_task``: the task during which SIGTERM came."""

    def __init__(self) -> None:
        self.parent: int | None = None
        self.terminated_task: str | None = None
        self._protected_task: str | None = None
        self._previous_handler: Callable[[int, FrameType | None], Any] | None = None

    def defer_sigterm(self, task_id: str) -> None:
        """From now to the end of this task, take the first SIGTERM as a request to stop."""
        if self.parent is None or self._protected_task == task_id:
            return
        if threading.current_thread() is not threading.main_thread():
            return
        self._protected_task = task_id
        previous = signal.getsignal(signal.SIGTERM)
        # With REMAP_SIGTERM the signal is ignored, so nothing needs to be deferred.
        if callable(previous):
            self._previous_handler = previous
            signal.signal(signal.SIGTERM, self._request_stop)

    def _request_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.terminated_task = self._protected_task
        signal.signal(signal.SIGTERM, self._previous_handler)

    def restore_sigterm(self) -> None:
        """Give SIGTERM its meaning back, because the task has ended."""
        self._protected_task = self.terminated_task = None
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None


_child = _PoolChild()


def _remember_parent(**_: Any) -> None:
    _child.parent = os.getppid()


def _end_task(task_id: str | None = None, **_: Any) -> None:
    if _child.parent is None:
        return
    _child.restore_sigterm()
    if task_id is not None and board.is_shutting_down():
        # A worker that waits for its tasks in a signal handler reads no results.
        board.post_end(task_id)


signals.worker_process_init.connect(_remember_parent)
signals.task_postrun.connect(_end_task)
