"""Rows as a test needs them: what it does not give has the value that the tables give it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import AttemptRow, LaneRow, ReservationRow, RunRow, names_of
from mailbatch.domain.run import Trigger


def reservation_row(now: datetime | None = None, **given: Any) -> ReservationRow:
    """A reservation that was made, and became due, at ``now``."""
    at = now or datetime.now(UTC)
    row = dict.fromkeys(names_of(ReservationRow)) | {
        "id": uuid4(),
        "recipients": "ann@example.org",
        "subject": "s",
        "body_text": "t",
        "scheduled_at": at,
        "created_at": at,
        "priority": 0,
        "status": Status.PENDING,
        "attempts": 0,
        "claim_no": 0,
        **given,
    }
    return ReservationRow.from_row(row | {"due_at": row["retry_at"] or row["scheduled_at"]})


def attempt_row(reservation: ReservationRow, now: datetime | None = None, **given: Any) -> AttemptRow:
    """An attempt of ``reservation`` that ended at ``now``, without a verdict."""
    at = now or datetime.now(UTC)
    known = {"reservation_id": reservation.id, "claim_no": 1, "ended_at": at, "outcome": "in_doubt"}
    return AttemptRow(**dict.fromkeys(names_of(AttemptRow)) | known | given)


def run_row(now: datetime | None = None, **given: Any) -> RunRow:
    """A run of send-all that began at ``now`` and goes on."""
    at = now or datetime.now(UTC)
    counts = ("sent", "failed", "deferred", "in_doubt", "expired", "held_back", "remaining", "bound", "claimed")
    known = {"run_id": uuid4(), "job": "send-all", "trigger": Trigger.BEAT, "started_at": at, "heartbeat_at": at}
    return RunRow.from_row(dict.fromkeys(names_of(RunRow)) | dict.fromkeys(counts, 0) | known | given)


def lane_row(now: datetime | None = None, **given: Any) -> LaneRow:
    """A helper of a run, heard of at ``now``."""
    at = now or datetime.now(UTC)
    return LaneRow(**{"run_id": uuid4(), "lane": 1, "heartbeat_at": at, "left_at": None, "error": None, **given})
