"""A run in progress: what its work counts and reports, and what the database and the status show of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from mailbatch.batch.item_errors import ItemErrors
from mailbatch.batch.periodic_tasks import PeriodicTasks
from mailbatch.domain.run import REPORTED, REPORTED_ERRORS, Counts, RunOutcome, RunReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from mailbatch.application.ports.runs import Runs
    from mailbatch.application.ports.system import Clock
    from mailbatch.batch.stop.stop_token import CombinedStopToken
    from mailbatch.domain.run import ItemError, Trigger


class RunInProgress:
    """The port ``Run``. ``began``: when the call came, on the monotonic clock, in seconds."""

    def __init__(
        self, run_id: UUID, trigger: Trigger, stop: CombinedStopToken, *, runs: Runs, clock: Clock, began: float
    ) -> None:
        self.id = run_id
        self.trigger = trigger
        self.stop = stop
        self.fault: str | None = None
        self.first_errors: list[str] = []
        self.errors = ItemErrors(runs, run_id)
        self.periodic_tasks = PeriodicTasks()
        self._runs = runs
        self._clock = clock
        self._began = began
        self._counts = Counts()
        self._helper_counts = Counts()
        self._guard = threading.Lock()

    # --- what the work calls ---

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` every so many seconds until the run ends."""
        self.periodic_tasks.every(seconds, callback)

    def count(self, counts: Counts) -> None:
        """Add to the counts of this lane."""
        with self._guard:
            self._counts += counts

    def set_helper_counts(self, counts: Counts) -> None:
        """Replace the counts of the other lanes."""
        self._helper_counts = counts

    def item_error(self, error: ItemError) -> None:
        """Collect an item error; it is written with the next heartbeat."""
        if len(self.first_errors) < REPORTED_ERRORS:
            self.first_errors.append(error.text())
        self.errors.add(error)

    def note_fault(self, why: str) -> None:
        """Keep the first fault; the run ends with it."""
        self.fault = self.fault or why

    def raise_bound(self, mails: int) -> None:
        """Add to the bound in the run's row. Raises ``StoreError``."""
        self._runs.raise_bound(self.id, mails)

    # --- what the job reads and calls ---

    @property
    def total(self) -> Counts:
        """The counts of all lanes."""
        return self._counts + self._helper_counts

    @property
    def elapsed(self) -> float:
        """Seconds since the call came."""
        return self._clock.monotonic() - self._began

    def progress(self) -> dict[str, Any]:
        """Return the run as the status board shows it."""
        report = RunReport(run_id=self.id, trigger=self.trigger, outcome=RunOutcome.COMPLETED, counts=self.total)
        shown = {k: v for k, v in report.as_dict().items() if k in REPORTED or k in {"run_id", "trigger"}}
        shown.pop("remaining")
        return {**shown, "state": "running", "elapsed": round(self.elapsed, 3)}

    def beat(self) -> None:
        """Write the item errors and the heartbeat."""
        self.errors.flush()
        self._runs.beat(self.id, self.total)

    def read_stop_request(self) -> None:
        """Stop if somebody has requested it in the run's row (``mailbatch stop``)."""
        if (reason := self._runs.stop_request(self.id)) is not None:
            self.stop.request_stop(reason)
