"""A run of a batch: how it was started, how it ended, what it counted, and how its errors read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.redaction.lines import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

REPORTED_ERRORS = 100
"""A report carries this many errors at most; all of them stand in ``run_errors``."""

ALREADY_RUNNING = "job is already running"
FINISHED = "job finished"


class Trigger(StrEnum):
    """Who started a run."""

    BEAT = "beat"
    MANUAL = "manual"
    API = "api"


class RunOutcome(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    """Everything that was due has been tried."""
    SKIPPED = "skipped"
    """Another run held the lock; nothing was done and no row was written."""
    PAUSED = "paused"
    REVOKED = "revoked"
    SHUTDOWN = "shutdown"
    TIMED_OUT = "timed_out"
    LOCK_LOST = "lock_lost"
    FAILED = "failed"
    """It could not go on: the repository, the relay or the job itself broke."""


DEAD_AFTER = 10.0
"""Seconds of silence after which a run counts as dead, wherever that is asked; it beats every five."""

STOPPED = frozenset(
    {RunOutcome.PAUSED, RunOutcome.REVOKED, RunOutcome.SHUTDOWN, RunOutcome.TIMED_OUT, RunOutcome.LOCK_LOST}
)
"""Outcomes of a run that was told to stop: each is also a stop reason."""


class Pause(StrEnum):
    """What an operator has suspended."""

    NONE = "none"
    TICKS = "ticks"
    """No tick starts a run; a run in progress finishes, a call by hand still runs."""
    ALL = "all"
    """The run in progress also stops before its next mail, and calls answer ``paused``."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many items ended how; what a run did is the sum over its settled groups."""

    sent: int = 0
    failed: int = 0
    deferred: int = 0
    in_doubt: int = 0
    expired: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def done(self) -> int:
        """Items that this run dealt with, whatever came of them."""
        return self.sent + self.failed + self.deferred + self.in_doubt + self.expired


@dataclass(frozen=True, slots=True)
class ItemError:
    """What went wrong with one item. ``index`` counts from 1 over the whole run."""

    index: int
    reservation_id: UUID | str
    errors: tuple[str, ...]

    def text(self) -> str:
        """``[error]Index:<i>,ReservationID:<id>,Errors:[<error> <error>]``, on one line."""
        errors = " ".join(one_line(error) for error in self.errors)
        return f"[error]Index:{self.index},ReservationID:{self.reservation_id},Errors:[{errors}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What a run answers. ``duration`` in seconds; ``bound``: mails that a crash could have left in doubt at most."""

    run_id: UUID | None
    trigger: Trigger
    outcome: RunOutcome
    counts: Counts = field(default_factory=Counts)
    remaining: int = 0
    duration: float = 0.0
    bound: int = 0
    errors: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """The report as ``send-all`` returns it: JSON types only, addresses masked, errors cut to size."""
        return {
            "run_id": str(self.run_id) if self.run_id else None,
            "trigger": self.trigger.value,
            "outcome": self.outcome.value,
            **asdict(self.counts),
            "remaining": self.remaining,
            "duration": round(self.duration, 3),
            "bound": self.bound,
            "errors": [public(error) for error in self.errors[:REPORTED_ERRORS]],
        }


def crash_bound(lanes: int, connections: int, window: int, *, strict: bool = False) -> int:
    """How many mails one crash may leave in doubt at most: a group on the wire and a group ahead, for each lane."""
    return lanes * connections if strict else lanes * 2 * connections * window


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run whose row says that it has not ended. ``silent``: seconds since its last heartbeat."""

    run_id: UUID
    started_at: datetime
    silent: float
