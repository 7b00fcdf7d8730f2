"""What is known of a request that bears an idempotency key."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class RequestState(Enum):
    """What is known of a request with an idempotency key that has no stored response."""

    NEW = auto()
    """The caller is to do it. Until it is finished or abandoned, other requests with this key are in progress."""
    IN_PROGRESS = auto()
    OTHER = auto()
    """The key was used before for another request."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response that was given before, as JSON text."""

    status: int
    body: str
