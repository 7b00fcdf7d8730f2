"""``send-all``: sends what is due, in one lane or several."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from mailbatch.batch.job import Job, make_job
from mailbatch.domain.errors import RunFailed, StoreError
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.run import DEAD_AFTER, RunOutcome, crash_bound

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from mailbatch.application.ports.runs import Lanes, Run
    from mailbatch.application.ports.system import Clock
    from mailbatch.application.sending.send_due import SendDue
    from mailbatch.bootstrap import Parts

log = logging.getLogger(__name__)

PASS_ON_EVERY = 0.25
"""Seconds within which a stop of lane 0 reaches the helpers."""
LOOK_EVERY = 0.1
"""Seconds between two looks whether the last helper has left the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendMailBatch:
    """The work of a run of ``send-all``. This process is lane 0: it calls helpers, sends, and waits for them.

    ``call_helper`` queues ``send-lane`` for a lane of a run. Helpers come if a worker is free. If none is, lane 0 does
    all the work. ``due`` counts what is due, up to what ``helpers`` and lane 0 can claim at once, ``group_size`` mails
    each. No helper is called for which there is no group.
    """

    send_due: SendDue
    lanes: Lanes
    clock: Clock
    helpers: int = 0
    call_helper: Callable[[UUID, int], None] | None = None
    due: Callable[[], int] = lambda: 0
    group_size: int = 1

    def __call__(self, run: Run) -> None:
        """Send what is due; see ``SendDue``. Helpers are called after the probe, if one is needed."""
        with structlog.contextvars.bound_contextvars(lane=0):
            self.send_due.probe(run)
            self._lead(run)

    def _lead(self, run: Run) -> None:
        helpers = self._helpers_for_what_is_due()
        if not helpers or self.call_helper is None:
            self.send_due(run, lane=0)
            return
        run.every(PASS_ON_EVERY, lambda: self._pass_on(run))
        for lane in range(1, helpers + 1):
            self.call_helper(run.id, lane)
        try:
            self.send_due(run, lane=0)
            self._wait(run, self._no_helper_works)
            # A helper that left may have given mails back. No lane has claimed them yet.
            self.send_due(run, lane=0)
        except RunFailed:
            # Helpers must not go on through a backlog on which lane 0 failed.
            try:
                self.lanes.request_stop(run.id, RunOutcome.FAILED)
            except StoreError as error:
                log.warning("helpers cannot be told to stop: %s", error)
            raise
        finally:
            self._wait(run, self._no_helper_comes)

    def _helpers_for_what_is_due(self) -> int:
        if not self.helpers:
            return 0
        try:
            groups = -(-self.due() // self.group_size)
        except StoreError as error:
            log.warning("no helpers are called, what is due could not be counted: %s", error)
            return 0
        return max(0, min(self.helpers, groups - 1))

    def _no_helper_works(self, run: Run) -> bool:
        return not self.lanes.living(run.id, DEAD_AFTER)

    def _no_helper_comes(self, run: Run) -> bool:
        """Return whether no helper works and none can still join.

        A helper that joined from now on would send mails that are in no run's counts.
        """
        if not self._no_helper_works(run) or not self.lanes.seal(run.id, DEAD_AFTER):
            return False
        run.set_helper_counts(self.lanes.counts(run.id))
        return True

    def _wait(self, run: Run, over: Callable[[Run], bool]) -> None:
        """Wait until ``over``. A helper without heartbeat is not waited for, nor a database that stays away."""
        heard = self.clock.monotonic()
        while self.clock.monotonic() - heard < DEAD_AFTER:
            try:
                self._pass_on(run)
                if over(run):
                    return
                heard = self.clock.monotonic()
            except StoreError as error:
                log.warning("helpers cannot be asked for: %s", error)
            self.clock.sleep(LOOK_EVERY)

    def _pass_on(self, run: Run) -> None:
        """Pass a stop on to the helpers, and take over what they have counted."""
        if (reason := run.stop.reason()) is not None:
            self.lanes.request_stop(run.id, reason)
        run.set_helper_counts(self.lanes.counts(run.id))


def send_all(parts: Parts, *, lock: bool = True, call_helper: Callable[[UUID, int], None] | None = None) -> Job:
    """Return the job ``send-all``.

    Without ``lock`` it needs no Redis, because the claims alone keep it correct. Without ``call_helper`` it has one
    lane.
    """
    s = parts.settings
    helpers = s.lanes - 1 if call_helper is not None else 0
    batch = SendMailBatch(
        send_due=parts.sending.send_due,
        lanes=parts.stores.lanes,
        clock=parts.clock,
        helpers=helpers,
        call_helper=call_helper,
        due=lambda: parts.sending.due_up_to((helpers + 1) * parts.sending.group_size),
        group_size=parts.sending.group_size,
    )
    return make_job(
        parts,
        SEND_ALL,
        batch,
        lock=lock,
        remaining=parts.sending.backlog.remaining,
        timeout=s.run_timeout,
        bound=crash_bound(helpers + 1, parts.sending.connections, s.window, strict=s.strict),
    )
