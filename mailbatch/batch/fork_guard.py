"""Lets no process be forked while a thread of this one has an SQLite database open.

SQLite forbids it: the fork believes that it holds the locks of its parent, which it does not.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_WAIT = 1.0
"""Seconds for which a fork waits. Then it takes place all the same: a database that hangs must not hold up a worker."""

_busy = threading.Lock()
_forks = threading.local()


@contextmanager
def no_fork() -> Iterator[None]:
    """Hold back forks until the end of the block. Do nothing in it that takes long."""
    with _busy:
        yield


def _before() -> None:
    _forks.waited = _busy.acquire(timeout=LONGEST_WAIT)


def _after_in_parent() -> None:
    if _forks.waited:
        _busy.release()


def _after_in_child() -> None:
    global _busy  # noqa: PLW0603 - the thread that may hold the old one is not in this process
    _busy = threading.Lock()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
