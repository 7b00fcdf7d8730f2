"""Collects the item errors of a lane and writes them to the database with its next heartbeat."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from mailbatch.domain.errors import StoreError

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.ports.runs import Runs
    from mailbatch.domain.run import ItemError

log = logging.getLogger(__name__)

MAX_WAITING = 500
"""Item errors kept in memory before they are written without waiting for the heartbeat."""


class ItemErrors:
    """The item errors of a lane: logged at once, and kept until the database has taken them."""

    def __init__(self, runs: Runs, run_id: UUID) -> None:
        self._runs = runs
        self._run_id = run_id
        self._waiting: list[ItemError] = []
        self._guard = threading.Lock()

    def add(self, error: ItemError) -> None:
        """Collect one error."""
        # The whole text: the log's own settings decide how much of an address it shows.
        log.warning("%s", error.text(), extra={"reservation_id": str(error.reservation_id)})
        with self._guard:
            self._waiting.append(error)
            full = len(self._waiting) >= MAX_WAITING
        if full:
            self.flush()

    def flush(self) -> None:
        """Write what waits. If the database is unavailable, log that and keep it."""
        try:
            self.write()
        except StoreError as error:
            log.warning("%d item errors wait to be written: %s", len(self._waiting), error)

    def write(self) -> None:
        """Write what waits. Raises ``StoreError`` and then keeps it."""
        with self._guard:
            errors, self._waiting = self._waiting, []
        try:
            self._runs.errors(self._run_id, errors)
        except StoreError:
            with self._guard:
                self._waiting = errors + self._waiting
            raise
