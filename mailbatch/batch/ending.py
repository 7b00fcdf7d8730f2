"""How a run ends: what an exception of its work means, its last writes, its log line."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from mailbatch.domain.errors import JobExecError, RunFailed, StoreError
from mailbatch.domain.redaction.addresses import mask_addresses, public
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.run import FINISHED, ITEMS_WAIT, REPORTED, RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.system import Clock
    from mailbatch.domain.run import RunReport

log = logging.getLogger(__name__)
T = TypeVar("T")

FINAL_WRITES_TIMEOUT = 10.0
"""Seconds in which the last writes of a run or a lane are retried while the database is unavailable."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the work of a run ended. ``raises`` is raised again once the run's row is written."""

    outcome: RunOutcome
    error: str | None = None
    raises: BaseException | None = None


def work_to_the_end(work: Callable[[Run], None], run: Run) -> Ending:
    """Call ``work``; whatever it raises becomes the ending of the run, so that what it has collected is kept."""
    try:
        work(run)
    except RunFailed as error:
        return Ending(RunOutcome.FAILED, _without_addresses(str(error)))
    except Exception as error:
        log.exception("the job broke")
        broken = JobExecError(_without_addresses(f"{type(error).__name__}: {error}"))
        return Ending(RunOutcome.FAILED, str(broken), raises=broken)
    except BaseException as error:  # noqa: BLE001 - SystemExit by `revoke --terminate`: record it, then raise it again
        return Ending(RunOutcome.REVOKED, f"terminated by {type(error).__name__}", raises=error)
    fault = fault_of(run)
    return Ending(run.stop.reason() or (RunOutcome.FAILED if fault else RunOutcome.COMPLETED), fault)


def fault_of(run: Run) -> str | None:
    """Return what the items that wait for something shared wait for, as the run's error; None if there are none."""
    return f"{ITEMS_WAIT}{_without_addresses(run.fault)}" if run.fault else None


def _without_addresses(error: str) -> str:
    """The error for the run's row, Celery's result and Flower: the whole text, with addresses masked."""
    return mask_addresses(one_line(error))


class FinalWrites:
    """Makes the last writes of a run or a lane; all of them together may take ``FINAL_WRITES_TIMEOUT`` seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadline = clock.monotonic() + FINAL_WRITES_TIMEOUT

    def write_with_deadline(self, write: Callable[[], T], default: T, complaint: str) -> T:
        """Call ``write`` until the database takes it. After the deadline log ``complaint`` and return ``default``."""
        pause = 0.1
        while True:
            try:
                return write()
            except StoreError as error:
                if not error.transient or self._clock.monotonic() + pause > self._deadline:
                    log.error("%s: %s", complaint, error)  # noqa: TRY400 - one line says it all
                    return default
            self._clock.sleep(pause)
            pause = min(pause * 2, 1.0)


def log_the_end(job: str, report: RunReport, error: str | None) -> None:
    """Log outcome, duration and counts in one line; an ``error`` of the run itself makes it an error line."""
    counts = ", ".join(f"{name} {n}" for name, n in report.as_dict().items() if name in REPORTED and n)
    log.log(
        logging.ERROR if error else logging.INFO,
        "%s: %s, %s after %.3f s (%s)%s",
        FINISHED,
        job,
        report.outcome,
        report.duration,
        counts or "nothing due",
        f": {public(error)}" if error else "",
    )
