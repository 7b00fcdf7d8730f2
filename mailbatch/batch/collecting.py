"""Item errors on their way into the database, and how the last words of a run get there although it is away."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, TypeVar

from mailbatch.domain.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from mailbatch.application.ports.runs import Runs
    from mailbatch.application.ports.system import Clock
    from mailbatch.domain.run import ItemError

log = logging.getLogger(__name__)
T = TypeVar("T")

AT_ONCE = 500
"""Item errors kept in memory before they are written."""
LAST_PATIENCE = 10.0
"""Seconds for which the end of a run is tried to be written."""


class ItemErrors:
    """The item errors of a lane: logged at once, written with its next sign of life, kept until they are taken."""

    def __init__(self, runs: Runs, run_id: UUID) -> None:
        self._runs = runs
        self._run_id = run_id
        self._waiting: list[ItemError] = []
        self._guard = threading.Lock()

    def add(self, error: ItemError) -> None:
        """Collect one."""
        # Whole: what of it is shown is for the log's own settings to say.
        log.warning("%s", error.text(), extra={"reservation_id": str(error.reservation_id)})
        with self._guard:
            self._waiting.append(error)
            full = len(self._waiting) >= AT_ONCE
        if full:
            self.flush()

    def flush(self) -> None:
        """Write what waits, unless the database is away."""
        try:
            self.write()
        except StoreError as error:
            log.warning("%d item errors wait to be written: %s", len(self._waiting), error)

    def write(self) -> None:
        """Write what waits. Raises ``StoreError``, and keeps it then."""
        with self._guard:
            errors, self._waiting = self._waiting, []
        try:
            self._runs.errors(self._run_id, errors)
        except StoreError:
            with self._guard:
                self._waiting = errors + self._waiting
            raise


class LastWords:
    """Writes what is to be written when a run or a lane ends; for ``LAST_PATIENCE`` seconds in all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = clock.monotonic() + LAST_PATIENCE

    def say(self, deed: Callable[[], T], otherwise: T, complaint: str) -> T:
        """Do ``deed`` until the database takes it; if it never does, log ``complaint`` and answer ``otherwise``."""
        pause = 0.1
        while True:
            try:
                return deed()
            except StoreError as error:
                if not error.transient or self._clock.monotonic() + pause > self._until:
                    log.error("%s: %s", complaint, error)  # noqa: TRY400 - one line says it all
                    return otherwise
            self._clock.sleep(pause)
            pause = min(pause * 2, 1.0)
