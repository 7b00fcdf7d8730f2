"""What operators and applications ask of the database: reservations, interventions, a census, and reports of runs.

Every method may raise ``StoreError``. A ``Row`` has the names of the table's columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from uuid import UUID

    from mailbatch.domain.errors import MailbatchError
    from mailbatch.domain.reservation import Reservation, Status
    from mailbatch.domain.run import ItemError

Row: TypeAlias = "Mapping[str, Any]"


# --- reserving ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a reservation is now: ``new`` is false when its idempotency key had stored it before."""

    reservation_id: UUID
    new: bool


class Intake(Protocol):
    """An open transaction into which reservations are put."""

    def add(self, reservation: Reservation) -> Stored:
        """Store ``reservation``, or find the one that its key stored before.

        Raises:
            KeyConflict: if the key, or the id, stands for a reservation with other content.
        """

    def add_many(self, reservations: Sequence[Reservation]) -> list[Stored | MailbatchError]:
        """Store each that can be stored; for the others, in their places, the error that says why not."""


class Reservations(Protocol):
    """All reservations, to store and to read."""

    def intake(self) -> AbstractContextManager[Intake]:
        """A transaction; committed at the end of the block, undone when it raises."""

    def get(self, reservation_id: UUID) -> Row | None:
        """One reservation with all its columns."""

    def attempts(self, reservation_id: UUID) -> list[Row]:
        """Its tries that ended otherwise than accepted, oldest first."""

    def select(self, which: Selection, columns: Collection[str] | None, after: Row | None, limit: int) -> list[Row]:
        """Up to ``limit`` reservations behind ``after``, newest first, with ``columns`` (None: all of them)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which reservations are meant; what is None does not matter. ``to``: a part of the recipients' text."""

    status: Status | None = None
    tag: str | None = None
    to: str | None = None


# --- intervening -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
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


class Interventions(Protocol):
    """What operators do to reservations. Each is one transaction, and touches only rows in the state that it names."""

    def cancel(self, ids: Sequence[UUID]) -> list[Answer]:
        """Pending to cancelled; an answer for each id, in order."""

    def cancel_tagged(self, tag: str) -> Changed:
        """Pending to cancelled, all with this tag."""

    def requeue(self, ids: Sequence[UUID]) -> list[Answer]:
        """Failed, in doubt or cancelled to pending, with all attempts before it; an answer for each id, in order."""

    def requeue_all(self, status: Status) -> Changed:
        """All that are in ``status`` (failed, in doubt or cancelled) to pending. ``left``: overdue ones."""

    def requeue_run(self, run_id: UUID) -> Changed:
        """Those of the errors of a run which are failed now, to pending. ``left``: by the state they are in."""

    def resolve_sent(self, reservation_id: UUID) -> Answer:
        """In doubt to sent."""

    def purge(self, older_than: float, limit: int) -> int:
        """Delete up to ``limit`` reservations that were finished more than ``older_than`` seconds ago; how many."""

    def purge_runs(self, older_than: float) -> int:
        """Delete the reports of runs that ended so long ago, and their errors, which hold addresses; how many runs."""


# --- inquiring ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Census:
    """How many reservations are in each state and how many are due; ``exact`` unless a count met its cap."""

    counts: Mapping[Status, int]
    due: int
    oldest_due_seconds: float | None
    exact: bool


class Reports(Protocol):
    """What is known of runs and of the backlog as a whole."""

    def census(self) -> Census:
        """Count. Exact at least up to 10,000 reservations in each state."""

    def runs(self, job: str, limit: int) -> list[Row]:
        """The last ``limit`` runs of ``job``, newest first."""

    def run(self, run_id: UUID) -> Row | None:
        """One run."""

    def errors(self, run_id: UUID) -> Iterator[ItemError]:
        """The errors of a run's items in their order, in full."""

    def next_tick_at(self, job: str) -> datetime | None:
        """When beat means to start ``job`` next, if a beat has said so."""
