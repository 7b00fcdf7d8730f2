"""An explanation of one reservation: the values that its parts share, and how they write times and numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.application.looking.job_snapshot import JobSnapshot
    from mailbatch.domain.reservation import Status
    from mailbatch.domain.rows import AttemptRow, ReservationRow


class Reason(StrEnum):
    """Why a mail is where it is, for programs. The sentence says the same to people."""

    EXPIRES = "expires"
    NOT_DUE = "not_due"
    HELD_BACK = "held_back"
    WAITS_FOR_RETRY = "waits_for_retry"
    PAUSED = "paused"
    RELAY_AWAY = "relay_away"
    BEING_SENT = "being_sent"
    SENDER_DIED = "sender_died"
    RELAY_SILENT = "relay_silent"
    RUN_IN_PROGRESS = "run_in_progress"
    REDIS_AWAY = "redis_away"
    LOCKED = "locked"
    NO_RUN = "no_run"
    NO_TICK = "no_tick"
    WAITS_FOR_RUN = "waits_for_run"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What there is to say about one reservation. ``advice`` may be empty; the most important of ``facts`` is first."""

    reservation_id: UUID
    status: Status
    reason: Reason
    sentence: str
    advice: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cause:
    """The part of an explanation that depends on the reservation's status."""

    reason: Reason
    sentence: str
    advice: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """What was read about one reservation, and what goes on with its job."""

    row: ReservationRow
    attempts: Sequence[AttemptRow]
    snapshot: JobSnapshot

    @property
    def now(self) -> datetime:
        """The time by the database's clock."""
        return self.snapshot.health.now

    @property
    def has_expired(self) -> bool:
        """Whether its ``expires_at`` has passed: then it cannot be sent any more."""
        expires_at = self.row.expires_at
        return expires_at is not None and expires_at <= self.now


ASK_RELAY = "does the relay answer? `mailbatch doctor` asks it"


def no_answer_for(seconds: float) -> str:
    """Say that a relay is silent, inside a sentence."""
    return f"nobody was answered for {seconds:.0f} s"


def at(when: datetime | None) -> str:
    """Write a time to the second, in UTC."""
    return f"{when:%Y-%m-%d %H:%M:%S} UTC" if when is not None else "an unknown time"


def at_if_known(when: datetime | None) -> str:
    """Write a time with "at" before it; nothing for None."""
    return f" at {at(when)}" if when is not None else ""
