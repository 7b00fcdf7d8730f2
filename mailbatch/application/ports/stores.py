"""Ports of the reservations: to store, read, change and delete them. Each method may raise ``StoreError``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from mailbatch.domain.rows import ReservationContext, ReservationSummary, Row

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    from mailbatch.domain.act import Act
    from mailbatch.domain.change import ChangeResult, Purged
    from mailbatch.domain.content import Content
    from mailbatch.domain.errors import MailbatchError
    from mailbatch.domain.reservation import Reservation, Status, Stored
    from mailbatch.domain.rows import AttemptRow, ReservationPlace, ReservationRow, StoredFile
    from mailbatch.domain.selection import Counted, Found, Group, Selection


R = TypeVar("R", bound=Row)
Own = TypeVar("Own", ReservationSummary, ReservationContext)

PATIENCE = 0.5
"""Seconds for which a search for a person goes on. With everything else the person waits for about a second."""


class Intake(Protocol):
    """An open transaction that stores reservations."""

    def add(self, reservation: Reservation) -> Stored:
        """Store ``reservation``, or find the one that its key stored before.

        Raises:
            KeyConflict: if the key, or the id, stands for a reservation with other content.
        """

    def remember(self, key: str, owner: str, status: int, body: str) -> None:
        """Store the response to the request that ``owner`` began under ``key``: both are kept, or none.

        Raises ``StateConflict`` if it is not ``owner``'s any more: then nothing of this transaction must be kept.
        """

    def trace(self, ids: Sequence[UUID], headers: Mapping[str, str]) -> None:
        """Store the W3C headers of the trace in which these were reserved."""

    def store_file(self, content: bytes, filename: str | None, content_type: str | None) -> str:
        """Store a file that reservations may name, and return its id, the SHA-256 of ``content``.

        A file with the same content is not stored again: it keeps its name, and counts as touched now.
        """

    def touch_files(self, ids: Collection[str]) -> dict[str, int]:
        """Count these files as touched now; return the sizes of those that exist, in bytes, by their ids.

        They are not purged before this is committed.
        """

    def add_many(self, reservations: Sequence[Reservation]) -> list[Stored | MailbatchError]:
        """Store each that can be stored; return in the places of the others the error that says why not."""


class Reservations(Protocol):
    """Stores and reads reservations."""

    def intake(self) -> AbstractContextManager[Intake]:
        """Open a transaction. It is committed at the end of the block, and undone if the block raises."""

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
        """Count the reservations that ``which`` selects, up to ``cap`` + 1."""

    def count_by_status(self, group: Group) -> Mapping[Status, int]:
        """Count the reservations of ``group`` in each state that occurs, to the end."""

    def estimate(self, which: Selection, cap: int, within: float | None = None) -> Counted:
        """Count them as ``count`` does, but look no longer than about ``within`` seconds (None: to the end)."""


class Files(Protocol):
    """Reads the files that reservations name, and deletes those that none names any more."""

    def find(self, file_id: str) -> StoredFile | None:
        """Return what is known of a file; None if there is none."""

    def some(self, ids: Collection[str]) -> Mapping[str, StoredFile]:
        """Return what is known of those of ``ids`` that exist, by their ids. It costs no statement for no id."""

    def content(self, file: StoredFile) -> Content:
        """Return the bytes of ``file``. Reading them raises ``CannotCompose`` if it is gone, or ``StoreError``."""

    def purge(self) -> int:
        """Delete the files that no reservation names, and that were not touched for a day; return how many."""


class Interventions(Protocol):
    """Changes and deletes reservations for operators. Each call is one transaction.

    After a call it pauses while a run is sending, so that the run has its share of the database.
    """

    @property
    def portion(self) -> int:
        """How many reservations the next call of many may be for, so that no lane waits long for it."""

    def apply(self, act: Act, ids: Sequence[UUID], states: Collection[Status]) -> list[ChangeResult]:
        """Do ``act`` to those of ``ids`` that are in ``states``; return a result for each id, in order.

        States from which the act does not lead are ignored. A requeued reservation has all its attempts before it. A
        deleted one goes with its attempts; its result has the state in which it was.
        """

    def purge(self, older_than: float, after: Purged | None = None) -> Purged:
        """Delete a portion of the reservations that were finished more than ``older_than`` seconds ago.

        ``after`` is the portion before this one. A portion may have fewer, or none, and not be the last.
        """

    def purge_runs(self, older_than: float) -> int:
        """Delete the reports of runs that ended so long ago, and their errors, which hold addresses; how many runs."""
