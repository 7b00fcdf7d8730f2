"""Ports to the reservations: storing, reading, changing and deleting them. Each method may raise ``StoreError``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from mailbatch.domain.reservation import FINISHED, REQUEUABLE, Status
from mailbatch.domain.rows import ReservationContext, ReservationSummary, Row

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    from mailbatch.domain.change import Changed, ChangeResult, Purged
    from mailbatch.domain.errors import MailbatchError
    from mailbatch.domain.reservation import Reservation, Status, Stored
    from mailbatch.domain.rows import AttemptRow, ReservationPlace, ReservationRow
    from mailbatch.domain.selection import Counted, Found, Selection


R = TypeVar("R", bound=Row)
Own = TypeVar("Own", ReservationSummary, ReservationContext)

PATIENCE = 0.5
"""Seconds for which a person's question looks through mails: a second, with all that is around it."""


class Intake(Protocol):
    """An open transaction into which reservations are put."""

    def add(self, reservation: Reservation) -> Stored:
        """Store ``reservation``, or find the one that its key stored before.

        Raises:
            KeyConflict: if the key, or the id, stands for a reservation with other content.
        """

    def remember(self, key: str, owner: str, status: int, answer: str) -> None:
        """Store the response to the request that ``owner`` began under ``key``: both are kept, or none.

        Raises ``StateConflict`` if it is not ``owner``'s any more: then nothing of this transaction must be kept.
        """

    def trace(self, ids: Sequence[UUID], headers: Mapping[str, str]) -> None:
        """Note in which trace these were reserved: its W3C headers."""

    def add_many(self, reservations: Sequence[Reservation]) -> list[Stored | MailbatchError]:
        """Store each that can be stored; for the others, in their places, the error that says why not."""


class Reservations(Protocol):
    """All reservations, to store and to read."""

    def intake(self) -> AbstractContextManager[Intake]:
        """A transaction; committed at the end of the block, undone when it raises."""

    def get(self, reservation_id: UUID) -> ReservationRow | None:
        """Return one reservation; None if there is none."""

    def some(self, ids: Collection[UUID], kind: type[Own]) -> Mapping[UUID, Own]:
        """Return those of ``ids`` that exist, read as ``kind``."""

    def attempts(self, reservation_id: UUID) -> list[AttemptRow]:
        """Return its attempts that ended otherwise than accepted, oldest first."""

    def select(self, which: Selection, kind: type[R], after: ReservationPlace | None, limit: int) -> list[R]:
        """Return up to ``limit`` reservations behind ``after``, newest first, read as ``kind``.

        The newest is the one that was made last. Where ``which.timed`` says so, a finished one counts by its end.
        """

    def search(
        self, which: Selection, kind: type[R], after: ReservationPlace | None, limit: int, within: float | None = None
    ) -> Found[R]:
        """Find them as ``select`` does, but look no longer than about ``within`` seconds (None: to the end)."""

    def count(self, which: Selection, cap: int) -> int:
        """How many ``which`` means; they are counted up to ``cap`` + 1."""

    def estimate(self, which: Selection, cap: int, within: float | None = None) -> Counted:
        """Count them as ``count`` does, but look no longer than about ``within`` seconds (None: to the end)."""


class Interventions(Protocol):
    """What operators do to reservations. Each touches only rows in the state that it names.

    By ids it is one transaction. What may concern a whole table is done in portions, each a transaction: if it breaks
    off, some are done. Between them it leaves a run that is sending its share of the database.
    """

    def cancel(self, ids: Sequence[UUID]) -> list[ChangeResult]:
        """Pending to cancelled; an answer for each id, in order."""

    def cancel_tagged(self, tag: str) -> Changed:
        """Pending to cancelled, all with this tag."""

    def requeue(self, ids: Sequence[UUID], states: Collection[Status] = REQUEUABLE) -> list[ChangeResult]:
        """Those in ``states`` to pending, with all attempts before them; an answer for each id, in order."""

    def requeue_all(self, status: Status) -> Changed:
        """All that are in ``status`` (failed, in doubt or cancelled) to pending. ``left``: overdue ones."""

    def requeue_run(self, run_id: UUID) -> Changed:
        """Those of the errors of a run which are failed now, to pending. ``left``: by the state they are in."""

    def count_failed(self, run_id: UUID, cap: int) -> int:
        """How many of the errors of a run are failed now; they are counted up to ``cap`` + 1."""

    def resolve(self, ids: Sequence[UUID]) -> list[ChangeResult]:
        """In doubt to sent; an answer for each id, in order."""

    def delete(self, ids: Sequence[UUID], states: Collection[Status] = FINISHED) -> list[ChangeResult]:
        """Delete those in ``states``, which must be finished ones, with their tries; an answer for each id, in order.

        What was deleted is ``changed``, and its status is the one in which it was.
        """

    def purge(self, older_than: float, limit: int, after: Purged | None = None) -> Purged:
        """Delete up to ``limit`` reservations that were finished more than ``older_than`` seconds ago.

        ``after`` is the page before this one. A page may have fewer, or none, and not be the last.
        """

    def purge_runs(self, older_than: float) -> int:
        """Delete the reports of runs that ended so long ago, and their errors, which hold addresses; how many runs."""
