"""What must be done every few seconds while a run works: each deed in a thread of its own."""

from __future__ import annotations

import logging
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Self

from mailbatch.domain.run import public

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class PeriodicTasks:
    """Threads that renew, beat and show, until the ``with`` block ends.

    They are apart so that a database that hangs does not let the lock run out, nor a Redis that hangs the leases.
    A deed that fails is logged once for each outage and tried again at its next turn; what must happen when it keeps
    failing is for the deed itself to know (a lock that cannot be renewed is lost).
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def every(self, seconds: float, deed: Callable[[], None]) -> None:
        """Do ``deed`` every so many seconds, the first time after as many."""
        name = f"upkeep-{getattr(deed, '__name__', 'deed')}"
        # A new thread knows nothing of the run that it serves, unless it is given it: its log lines carry the run's id.
        keep = copy_context().run
        thread = threading.Thread(target=keep, args=(self._keep, seconds, deed), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _keep(self, seconds: float, deed: Callable[[], None]) -> None:
        failing = False
        while not self._over.wait(seconds):
            try:
                deed()
            except Exception as error:  # noqa: BLE001 - the run goes on; the deed comes round again
                if not failing:
                    log.warning("upkeep failed, will be tried again: %s", public(f"{type(error).__name__}: {error}"))
                failing = True
            else:
                failing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            # A deed that hangs in a dead connection must not hold up the end of the run.
            thread.join(timeout=2.0)
