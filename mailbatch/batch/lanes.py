"""``send-lane``: a helper that joins a run of ``send-all`` and works on the same backlog until it is empty."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from mailbatch.batch.ending import FinalWrites, fault_of
from mailbatch.batch.item_errors import ItemErrors
from mailbatch.batch.job import HEARTBEAT
from mailbatch.batch.periodic_tasks import PeriodicTasks
from mailbatch.batch.stop.stop_token import CombinedStopToken
from mailbatch.domain.errors import RunFailed
from mailbatch.domain.job_name import SEND_LANE
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.run import DEAD_AFTER, Counts, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from mailbatch.application.ports.runs import Lanes, Runs
    from mailbatch.bootstrap import Parts
    from mailbatch.domain.run import ItemError, RunOutcome

log = logging.getLogger(__name__)

LISTEN_EVERY = 0.5
"""Seconds within which a helper learns that the run must stop."""


def send_lane(
    parts: Parts, run_id: UUID, lane: int, interrupted: Callable[[], RunOutcome | None] = lambda: None
) -> dict[str, Any]:
    """Help with a run until its backlog is empty or it must stop. Return what this lane has sent, as JSON values.

    ``interrupted`` returns why this lane alone must stop, for example because its worker shuts down, or None. A lane
    that stops gives back the mails that it has claimed, and the other lanes go on.
    """
    with structlog.contextvars.bound_contextvars(job=SEND_LANE, run_id=str(run_id), lane=lane):
        if not parts.stores.lanes.join(run_id, lane):
            log.info("the run needs no helper any more")
            return {"joined": False}
        run = LaneRun(run_id, lane, parts.stores.runs, parts.stores.lanes, interrupted)
        error: str | None = None
        try:
            with run.periodic_tasks:
                run.keep_up()
                parts.sending.send_due(run, lane=lane)
            error = fault_of(run)
        except RunFailed as failure:
            error = one_line(str(failure))
            log.error("lane ended: %s", public(error))  # noqa: TRY400 - one line says it all
        except BaseException as failure:
            error = f"{type(failure).__name__}: {one_line(str(failure))}"
            raise
        finally:
            final = FinalWrites(parts.clock)
            final.write_with_deadline(run.errors.write, None, "item errors are missing from the report of the run")
            leave = partial(parts.stores.lanes.leave, run_id, lane, error)
            final.write_with_deadline(leave, None, "the end of the lane could not be written")
        log.info("lane left: %d sent, %d failed, %d deferred", run.counts.sent, run.counts.failed, run.counts.deferred)
        return {"joined": True, "sent": run.counts.sent, "failed": run.counts.failed, "deferred": run.counts.deferred}


class LaneRun:
    """The port ``Run`` for a helper. The run belongs to lane 0, and only lane 0 can end it."""

    trigger = Trigger.BEAT

    def __init__(
        self, run_id: UUID, lane: int, runs: Runs, lanes: Lanes, interrupted: Callable[[], RunOutcome | None]
    ) -> None:
        self.id = run_id
        self.counts = Counts()
        self.fault: str | None = None
        self.periodic_tasks = PeriodicTasks()
        self.stop = CombinedStopToken(interrupted)
        self._lane = lane
        self._lanes = lanes
        self._runs = runs
        self.errors = ItemErrors(runs, run_id)

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call it regularly; see the port."""
        self.periodic_tasks.every(seconds, callback)

    def count(self, counts: Counts) -> None:
        """Count for the result of this lane. The counts of the run are in the database already."""
        self.counts += counts

    def set_helper_counts(self, counts: Counts) -> None:
        """Do nothing, because a helper has no helpers."""

    def item_error(self, error: ItemError) -> None:
        """Collect an error. The next heartbeat writes it."""
        self.errors.add(error)

    def note_fault(self, why: str) -> None:
        """Keep the first fault; the lane ends with it."""
        self.fault = self.fault or why

    def raise_bound(self, mails: int) -> None:
        """Add to the bound in the row of the run that it helps. Raises ``StoreError``."""
        self._runs.raise_bound(self.id, mails)

    def keep_up(self) -> None:
        """Start the heartbeat, and listen whether lane 0 stops."""
        self.every(HEARTBEAT, self._beat)
        self.every(LISTEN_EVERY, self._listen)

    def _beat(self) -> None:
        self.errors.flush()
        self._lanes.beat(self.id, self._lane)

    def _listen(self) -> None:
        if (reason := self._lanes.must_stop(self.id, DEAD_AFTER)) is not None:
            self.stop.request_stop(reason)
