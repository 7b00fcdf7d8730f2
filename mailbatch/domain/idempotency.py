"""What is known of a request that bears an idempotency key."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class RequestState(Enum):
    """Where a request stands that bears an idempotency key."""

    NEW = auto()
    """It is ours to do; the next one with this key is told to wait until it is done or abandoned."""
    IN_PROGRESS = auto()
    OTHER = auto()
    """The key was used before for another request."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer that was given before, as JSON text."""

    status: int
    body: str
