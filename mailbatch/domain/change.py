"""What a change by an operator did: to one reservation, or to many."""

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
    """What became of one reservation that was to be changed.

    ``status`` is the one in which it is now, None if there is no such reservation. ``overdue`` says that it was left
    alone because its ``expires_at`` has passed.
    """

    reservation_id: UUID
    changed: bool
    status: Status | None
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """How many reservations a bulk intervention changed, and in which states it left others alone."""

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
    """How many a page of a purge deleted; ``place`` is where the next page begins, None if there is none."""

    count: int
    place: tuple[Any, ...] | None
