"""What a gate says of a mail whose time has come: it may go, or not before a later time, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

NEVER = datetime(9999, 12, 30, tzinfo=UTC)
"""The due time of a mail that waits until its gate is opened."""


@dataclass(frozen=True, slots=True)
class NotBefore:
    """The mail is held back until ``at``; None: until the gate is opened. ``reason`` fits behind "it waits: "."""

    at: datetime | None
    reason: str
