"""A run of a batch: its trigger, its outcome, its counts, its errors and its report."""

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
"""Errors in a report, at most. ``run_errors`` has all of them."""

ALREADY_RUNNING = "job is already running"
FINISHED = "job finished"
ITEMS_WAIT = "mails wait: "
"""Begins the error of a run that went to its end, while some mails wait for something that all of them share."""


class Trigger(StrEnum):
    """Who started a run."""

    BEAT = "beat"
    MANUAL = "manual"
    API = "api"
    URGENT = "urgent"
    """A worker found urgent mail."""

    @property
    def by_hand(self) -> bool:
        """Whether a person or a program asked for this run. Nobody asked for the others: any pause holds them back."""
        match self:
            case Trigger.MANUAL | Trigger.API:
                return True
            case Trigger.BEAT | Trigger.URGENT:
                return False


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
    """It could not go on: the database, the relay or the job itself failed. Or mails wait for a folder."""


DEAD_AFTER = 10.0
"""Seconds without a heartbeat after which a run counts as dead, everywhere. A run beats every five."""

STOPPED = frozenset(
    {RunOutcome.PAUSED, RunOutcome.REVOKED, RunOutcome.SHUTDOWN, RunOutcome.TIMED_OUT, RunOutcome.LOCK_LOST}
)
"""Outcomes of a run that was told to stop. Each is also a stop reason."""


class Pause(StrEnum):
    """How an operator has paused a job."""

    NONE = "none"
    TICKS = "ticks"
    """Ticks and urgent mail start no run. A run in progress finishes, and a call by hand still runs."""
    ALL = "all"
    """The run in progress also stops before its next mail, and calls return ``paused``."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many items ended in which way. The counts of a run are the sum over its settled groups."""

    sent: int = 0
    failed: int = 0
    deferred: int = 0
    in_doubt: int = 0
    expired: int = 0
    held_back: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def done(self) -> int:
        """All items that this run dealt with."""
        return self.sent + self.failed + self.deferred + self.in_doubt + self.expired


COUNTED = tuple(outcome.name for outcome in fields(Counts))
"""The outcomes of an item, in the order in which every screen lists them."""
REPORTED = (*COUNTED, "remaining")
"""The numbers of items in a report."""


@dataclass(frozen=True, slots=True)
class ItemError:
    """The errors of one item. ``index`` counts from 1 over the whole run."""

    index: int
    reservation_id: UUID | str
    errors: tuple[str, ...]

    def text(self) -> str:
        """``[error]Index:<i>,ReservationID:<id>,Errors:[<error> <error>]``, on one line."""
        errors = " ".join(one_line(error) for error in self.errors)
        return f"[error]Index:{self.index},ReservationID:{self.reservation_id},Errors:[{errors}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The result of a run. ``duration`` in seconds; ``bound``: mails that a crash could leave in doubt at most."""

    run_id: UUID | None
    trigger: Trigger
    outcome: RunOutcome
    counts: Counts = field(default_factory=Counts)
    remaining: int = 0
    duration: float = 0.0
    bound: int = 0
    errors: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the report as ``send-all`` returns it: JSON types only, addresses masked, errors shortened."""
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
    """Return how many mails a crash can leave in doubt at most: for each lane a group on the wire and the next one."""
    return lanes * connections if strict else lanes * 2 * connections * window


@dataclass(frozen=True, slots=True)
class NewestRun:
    """The run of a job that began last. ``outcome`` is None while it goes on, or if it died.

    ``silent``: seconds since its end, or since its last heartbeat. ``claimed``: how many items it took.
    """

    run_id: UUID
    trigger: Trigger
    outcome: RunOutcome | None
    silent: float
    claimed: int = 0


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run whose row has no outcome. ``silent``: seconds since its last heartbeat."""

    run_id: UUID
    started_at: datetime
    silent: float
