"""The table of the domain (``domain.lifecycle``) as SQL: which rows an event may change, and what it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.lifecycle import Attempts, blocked_by_expiry, sources, transition
from mailbatch.infrastructure.db.conditions import UNEXPIRED, is_in
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.db.types import now, raised

if TYPE_CHECKING:
    from collections.abc import Collection

    from mailbatch.domain.lifecycle import Event
    from mailbatch.domain.reservation import Status

_r = mail_reservations.c


def in_states(states: Collection[Status]) -> sa.ColumnElement[bool]:
    """Return the condition that a reservation is in one of ``states``."""
    return sa.or_(sa.false(), *(is_in(status) for status in sorted(states)))


def changeable(event: Event, states: Collection[Status] | None = None) -> sa.ColumnElement[bool]:
    """Return the condition that ``event`` changes a row; ``states`` narrows the states that the table allows."""
    allowed = sources(event)
    fits = in_states(allowed if states is None else allowed.intersection(states))
    return sa.and_(fits, UNEXPIRED) if blocked_by_expiry(event) else fits


def columns_after(event: Event, error: str | None = None) -> dict[str, Any]:
    """Return the columns that ``event`` writes, with ``error`` as ``last_error`` if the event sets it."""
    change = transition(event)
    columns: dict[str, Any] = {
        "status": change.status.value,
        "finished_at": now() if change.finished else None,
        "lease_until": None,
        "waits_for": None,
    }
    if change.attempts is not Attempts.KEEP:
        columns["attempts"] = attempts_after(change.attempts)
    if change.sets_error:
        columns["last_error"] = error
    return columns


def attempts_after(how: Attempts) -> sa.ColumnElement[int]:
    """Return the number of attempts after an event."""
    match how:
        case Attempts.KEEP:
            return _r.attempts
        case Attempts.USE:
            return raised(_r.attempts, 1)
        case Attempts.COUNTED:
            return sa.case((_r.attempts > 0, _r.attempts), else_=1)
        case Attempts.RESET:
            return sa.literal(0)
