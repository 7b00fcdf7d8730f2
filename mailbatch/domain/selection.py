"""Which reservations a list, a count or a bulk change means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from mailbatch.domain.checks import line_problems, time_problems
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import FINISHED, Status

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from mailbatch.domain.reservation import Status
    from mailbatch.domain.rows import ReservationPlace


R = TypeVar("R")
REPLY = re.compile(r"[245]xx|[245]\d\d|none", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which reservations are meant; what is None does not matter.

    ``to``: a part of the recipients' text. ``since`` and ``until`` (exclusive) bound when a finished one was finished,
    and when any other was made. ``reply``: what the relay said last, as a class (``4xx``), a code, or ``none``.
    ``run_id``: what that run had in hand last, or put off.
    """

    status: Status | None = None
    tag: str | None = None
    to: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    reply: str | None = None
    run_id: UUID | None = None

    def __post_init__(self) -> None:
        if self.reply is not None and not REPLY.fullmatch(self.reply):
            raise InvalidReservation([f"reply: {self.reply!r} is none of 2xx, 4xx, 5xx, a code such as 550, or none"])
        problems = [*line_problems("tag", self.tag), *line_problems("to", self.to)]
        for name in ("since", "until"):
            problems += time_problems(name, getattr(self, name))
        if problems:
            raise InvalidReservation(problems)

    @property
    def timed(self) -> bool:
        """Whether finished ones go by when they were finished, in place of when they were made."""
        return self.since is not None or self.until is not None or self.run_id is not None


def moment_of(place: ReservationPlace, which: Selection) -> datetime | None:
    """Return the time by which a reservation is sorted in a list of ``which``."""
    return place.finished_at if which.timed and place.status in FINISHED else place.created_at


@dataclass(frozen=True, slots=True)
class Found(Generic[R]):
    """What a search found, newest first.

    ``further``: the place at which the search ended because its time was up; behind it there may be more. None if it
    came to the end.
    """

    rows: list[R]
    further: ReservationPlace | None


@dataclass(frozen=True, slots=True)
class Counted:
    """How many there are at least; ``exact`` if there are no more."""

    many: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Tagged:
    """All reservations with this tag, in whatever state."""

    tag: str


@dataclass(frozen=True, slots=True)
class ErrorsOf:
    """All reservations that the errors of this run name, in whatever state they are now."""

    run_id: UUID


Group: TypeAlias = Tagged | ErrorsOf
Scope: TypeAlias = Selection | Group
"""Which reservations an act means: those of a filter, or of a group."""
