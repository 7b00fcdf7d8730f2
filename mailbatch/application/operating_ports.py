"""What operators and applications ask of the database: reservations, interventions, a census, and reports of runs.

Every method may raise ``StoreError``. A ``Row`` has the names of the table's columns.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import FINISHED, REQUEUABLE, Status, line_problems, time_problems
from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from uuid import UUID

    from mailbatch.domain.errors import MailbatchError
    from mailbatch.domain.reservation import Reservation
    from mailbatch.domain.run import ItemError

Row: TypeAlias = "Mapping[str, Any]"
REPLY = re.compile(r"[245]xx|[245]\d\d|none", re.ASCII)


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

    def remember(self, key: str, owner: str, status: int, answer: str) -> None:
        """Store the answer to the request that ``owner`` began under ``key`` (see ``Answers``): both are kept, or none.

        Raises ``StateConflict`` if it is not ``owner``'s any more: then nothing of this transaction must be kept.
        """

    def trace(self, ids: Sequence[UUID], headers: Mapping[str, str]) -> None:
        """Note in which trace these were reserved: its W3C headers."""

    def add_many(self, reservations: Sequence[Reservation]) -> list[Stored | MailbatchError]:
        """Store each that can be stored; for the others, in their places, the error that says why not."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, newest first.

    ``further`` is None, or the place (a row with ``LISTED_BY``) to which the search came before its time was up: behind
    it there may be more.
    """

    rows: list[Row]
    further: Row | None


@dataclass(frozen=True, slots=True)
class Counted:
    """How many there are at least; ``exact`` if there are no more."""

    many: int
    exact: bool


PATIENCE = 0.5
"""Seconds for which a person's question looks through mails: a second, with all that is around it."""


class Reservations(Protocol):
    """All reservations, to store and to read."""

    def intake(self) -> AbstractContextManager[Intake]:
        """A transaction; committed at the end of the block, undone when it raises."""

    def get(self, reservation_id: UUID) -> Row | None:
        """One reservation with all its columns."""

    def some(self, ids: Collection[UUID], columns: Collection[str]) -> Mapping[UUID, Row]:
        """Those of ``ids`` that there are, with ``columns``."""

    def attempts(self, reservation_id: UUID) -> list[Row]:
        """Its tries that ended otherwise than accepted, oldest first."""

    def select(self, which: Selection, columns: Collection[str] | None, after: Row | None, limit: int) -> list[Row]:
        """Up to ``limit`` reservations behind ``after``, newest first, with ``columns`` (None: all of them).

        ``after`` is a row with ``LISTED_BY``. The newest is that which was made last, or finished last where ``which``
        says so.
        """

    def search(
        self,
        which: Selection,
        columns: Collection[str] | None,
        after: Row | None,
        limit: int,
        within: float | None = None,
    ) -> Found:
        """Find them as ``select`` does, but look no longer than about ``within`` seconds (None: to the end)."""

    def count(self, which: Selection, cap: int) -> int:
        """How many ``which`` means; they are counted up to ``cap`` + 1."""

    def estimate(self, which: Selection, cap: int, within: float | None = None) -> Counted:
        """Count them as ``count`` does, but look no longer than about ``within`` seconds (None: to the end)."""


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


def moment_of(row: Row, which: Selection) -> Any:
    """The time by which ``row`` stands in a list of ``which``."""
    return row["finished_at"] if which.timed and row["status"] in FINISHED else row["created_at"]


LISTED_BY = frozenset({"id", "status", "created_at", "finished_at"})
"""The columns of a row behind which a list can go on."""


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

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> Changed:
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


class Interventions(Protocol):
    """What operators do to reservations. Each touches only rows in the state that it names.

    By ids it is one transaction. What may concern a whole table is done in portions, each a transaction: if it breaks
    off, some are done. Between them it leaves a run that is sending its share of the database.
    """

    def cancel(self, ids: Sequence[UUID]) -> list[Answer]:
        """Pending to cancelled; an answer for each id, in order."""

    def cancel_tagged(self, tag: str) -> Changed:
        """Pending to cancelled, all with this tag."""

    def requeue(self, ids: Sequence[UUID], states: Collection[Status] = REQUEUABLE) -> list[Answer]:
        """Those in ``states`` to pending, with all attempts before them; an answer for each id, in order."""

    def requeue_all(self, status: Status) -> Changed:
        """All that are in ``status`` (failed, in doubt or cancelled) to pending. ``left``: overdue ones."""

    def requeue_run(self, run_id: UUID) -> Changed:
        """Those of the errors of a run which are failed now, to pending. ``left``: by the state they are in."""

    def count_failed(self, run_id: UUID, cap: int) -> int:
        """How many of the errors of a run are failed now; they are counted up to ``cap`` + 1."""

    def resolve(self, ids: Sequence[UUID]) -> list[Answer]:
        """In doubt to sent; an answer for each id, in order."""

    def delete(self, ids: Sequence[UUID], states: Collection[Status] = FINISHED) -> list[Answer]:
        """Delete those in ``states``, which must be finished ones, with their tries; an answer for each id, in order.

        What was deleted is ``changed``, and its status is the one in which it was.
        """

    def purge(self, older_than: float, limit: int, after: Purged | None = None) -> Purged:
        """Delete up to ``limit`` reservations that were finished more than ``older_than`` seconds ago.

        ``after`` is the page before this one. A page may have fewer, or none, and not be the last.
        """

    def purge_runs(self, older_than: float) -> int:
        """Delete the reports of runs that ended so long ago, and their errors, which hold addresses; how many runs."""


# --- inquiring ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Census:
    """How many reservations are in each state and how many are due; ``exact`` unless a count met its cap.

    ``due``: pending, their time has come and has not passed. ``oldest_due_seconds``: for how long the oldest of these
    has been due.
    """

    counts: Mapping[Status, int]
    due: int
    oldest_due_seconds: float | None
    exact: bool

    @property
    def under_way(self) -> int:
        """How many are claimed by a run: on their way to the relay, or about to be."""
        return self.counts.get(Status.SENDING, 0)

    @property
    def unsent(self) -> int:
        """How many are due and not sent: those that wait and those that are under way. A run calls it ``remaining``."""
        return self.due + self.under_way


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Tries of one run that ended alike. ``example`` is the text of one of them, in full."""

    outcome: str
    reply_code: int | None
    enhanced_code: str | None
    count: int
    example: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its schedule knows it: ``next_tick_at`` is None where no beat starts it."""

    name: str
    pause: Pause = Pause.NONE
    next_tick_at: datetime | None = None


class Reports(Protocol):
    """What is known of runs and of the backlog as a whole."""

    def census(self) -> Census:
        """Count. Exact at least up to 10,000 reservations in each state."""

    def runs(self, job: str, limit: int, before: Row | None = None, *, quiet: bool = True) -> list[Row]:
        """The last ``limit`` runs of ``job``, newest first; ``before``: those older than this row.

        ``silent`` of each row: seconds since its last sign of life. Without ``quiet`` only those that are worth a look:
        they dealt with a mail, left some, go on, or went wrong.
        """

    def run(self, run_id: UUID) -> Row | None:
        """One run, with ``silent`` as above."""

    def lane(self, run_id: UUID, lane: int) -> Row | None:
        """One helper of a run."""

    def errors(self, run_id: UUID, after: int = 0) -> Iterator[ItemError]:
        """The errors of a run's items with indexes above ``after``, in their order, in full; read page by page."""

    def error_groups(self, run_id: UUID) -> list[ErrorGroup]:
        """The tries of a run that were not accepted, by what was said to them; the most frequent first."""

    def jobs(self) -> list[Job]:
        """Every job that has run, that a beat starts or that somebody has paused, by name."""


# --- what was done, and what was answered ------------------------------------------------------------------------


class Actions(Protocol):
    """What operators did, and through which door. It holds ids and filters, never contents or addresses."""

    def note(self, actor: str, action: str, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        """Write down what ``actor`` (``api:operate``, ``console:operate``, ``cli:<user>``) did just now."""

    def begin(self, actor: str, action: str, target: Mapping[str, Any]) -> UUID:
        """Write down what ``actor`` is about to do, as ``begun``; answer the id of the note."""

    def end(self, note: UUID, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        """Write down what that came to."""

    def list(self, limit: int, before: Row | None = None) -> Sequence[Row]:
        """What was done last, newest first; ``before``: what is older than this row (``at`` and ``id``)."""


class Begun(Enum):
    """Where a request stands that bears an idempotency key."""

    NEW = auto()
    """It is ours to do; the next one with this key is told to wait until it is done or abandoned."""
    IN_PROGRESS = auto()
    OTHER = auto()
    """The key was used before for another request."""


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that was given before, as JSON text."""

    status: int
    answer: str


class Answers(Protocol):
    """Answers to requests that bore an idempotency key, for a day.

    ``owner`` is whoever works on a request, a new one for each: one that was slow, and taken for left, must neither do
    it a second time nor touch what its successor does.
    """

    def begin(self, key: str, owner: str, request: str) -> Begun | Given:
        """Begin ``request`` (a digest) under ``key``; one that was begun and left a while ago may begin anew."""

    def finish(self, key: str, owner: str, status: int, answer: str) -> None:
        """Store the answer, if the request is still ``owner``'s."""

    def abandon(self, key: str, owner: str) -> None:
        """Forget a request of ``owner``'s that came to nothing."""
