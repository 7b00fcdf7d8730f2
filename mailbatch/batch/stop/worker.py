"""The worker's side of a stop: a step that posts revokes and the shutdown on the stop board."""

from __future__ import annotations

import atexit
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from celery.utils.functional import maybe_list
from celery.worker import state

from mailbatch.batch.stop import board

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

INTERVAL = 0.25
"""Seconds between two looks at what was revoked."""

_KEPT = 60.0
"""Seconds for which a revoke stays on the board after its task has left the list of active ones."""


class StopBoard(bootsteps.StartStopStep):  # type: ignore[misc]
    """Posts which of the running tasks are revoked, and that the worker stops."""

    requires = {"celery.worker.components:Timer"}  # noqa: RUF012 - Celery's way

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._posted: dict[str, float] = {}
        self._folder = board.BoardFolder()
        # Not in stop(): a cold shutdown skips it.
        atexit.register(self._folder.remove)
        signals.task_revoked.connect(self._post_terminated)

    def start(self, worker: Any) -> None:
        """Begin to look for revokes."""
        worker.timer.call_repeatedly(INTERVAL, self._look)

    def close(self, _worker: Any) -> None:
        """Post the shutdown: `control shutdown` and a broken consumer send no signal, but they close the steps."""
        board.post_shutdown()

    def stop(self, _worker: Any) -> None:
        """Go on looking while the pool finishes its tasks."""

    terminate = stop

    def _look(self) -> None:
        if not self._folder.keep():
            self._posted.clear()
        active = {request.id: request for request in tuple(state.active_requests)}
        for task_id, request in active.items():
            if task_id not in self._posted and _is_revoked(request):
                self._post_revoke(task_id)
        self._take_down(set(active))

    def _post_terminated(self, request: Any, terminated: bool, **_: Any) -> None:  # noqa: FBT001 - Celery's signal
        """`revoke --terminate` removes the task from the active ones before a look could see it there."""
        if terminated:
            self._post_revoke(request.id)

    def _post_revoke(self, task_id: str) -> None:
        self._posted[task_id] = time.monotonic()
        board.post_revoke(task_id)

    def _take_down(self, active: set[str]) -> None:
        old = time.monotonic() - _KEPT
        for task_id in [task_id for task_id, at in self._posted.items() if at < old and task_id not in active]:
            del self._posted[task_id]
            self._folder.take_down_revoke(task_id)


def _is_revoked(request: Any) -> bool:
    """Return whether the task was revoked by its id, or by a stamp (`control revoke_by_stamped_headers`)."""
    if request.id in state.revoked:
        return True
    return any(
        set(maybe_list(value) or ()) & set(maybe_list(state.revoked_stamps.get(header)) or ())
        for header, value in (request.stamps or {}).items()
    )


def _post_shutdown(**_: Any) -> None:
    board.post_shutdown()


def _post_before_soft_shutdown(**_: Any) -> None:
    """Post the shutdown already in the handlers of SIGTERM and SIGQUIT.

    Celery sends ``worker_shutting_down`` only after it has waited for the soft shutdown.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGQUIT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, _posting(handler))


def _posting(handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], Any]:
    if getattr(handler, "posts", False):  # worker_ready comes again after each lost connection
        return handler

    def post(number: int, frame: FrameType | None) -> Any:
        board.post_shutdown()
        return handler(number, frame)

    post.posts = True  # type: ignore[attr-defined]
    return post


signals.worker_shutting_down.connect(_post_shutdown)
signals.worker_ready.connect(_post_before_soft_shutdown)
