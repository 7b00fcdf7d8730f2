"""Results of an operator's changes: for one reservation, for many, and for a page of a purge."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mailbatch.domain.reservation import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """The result for one reservation.

    ``status``: its state now; None if there is no such reservation. ``overdue``: it was not changed because its
    ``expires_at`` has passed.
    """

    reservation_id: UUID
    changed: bool
    status: Status | None
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """How many reservations were changed; ``left`` counts those that were not, by their state."""

    changed: int
    left: Mapping[Status, int] = field(default_factory=dict)

    @classmethod
    def of(cls, answers: Iterable[ChangeResult]) -> Changed:
        """Count ``answers``; what there is no more is not counted."""
        changed, left = 0, Counter[Status]()
        for answer in answers:
            changed += answer.changed
            if not answer.changed and answer.status is not None:
                left[answer.status] += 1
        return cls(changed, left)


@dataclass(frozen=True, slots=True)
class Purged:
    """How many reservations a page of a purge deleted; ``place``: where the next page begins, None after the last."""

    count: int
    place: tuple[Any, ...] | None
