"""Reserves many mails from a stream of records: stores the good ones, reports the bad ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mailbatch.application.acting.records import BadLine, Record
from mailbatch.application.acting.reserve import with_their_files
from mailbatch.domain.errors import InvalidReservation, MailbatchError
from mailbatch.domain.reservation import Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mailbatch.application.acting.imported_files import ImportedFiles
    from mailbatch.application.acting.reserve import CheckDraft
    from mailbatch.application.ports.stores import Intake, Reservations
    from mailbatch.domain.reservation import Reservation

BATCH = 500
"""Records of one transaction: enough to be fast, few enough that no lane waits for it."""
_HELD = 8 * 2**20
"""Bytes of finished messages with which a transaction is full before that: all of them are in memory."""


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import, in records. ``known``: their idempotency keys stored them before."""

    new: int = 0
    known: int = 0
    bad: int = 0

    def __add__(self, other: Imported) -> Imported:
        return Imported(self.new + other.new, self.known + other.known, self.bad + other.bad)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """Reserves the mails of ``records``, in portions and in constant memory.

    ``files``: takes the files that records name by a path; None: there are none.
    """

    check: CheckDraft
    reservations: Reservations
    files: ImportedFiles | None = None
    batch: int = BATCH

    def __call__(
        self,
        records: Iterable[Record | BadLine],
        *,
        strict: bool,
        on_bad: Callable[[BadLine], None],
        on_progress: Callable[[Imported], None],
    ) -> Imported:
        """Store every good record; with ``strict`` store none if one is bad.

        ``on_bad`` is called for each bad record, in order; ``on_progress`` after each portion, with the result so far.
        Raises ``StoreError`` if the database fails; then the portions before it stay, unless ``strict``.
        """
        portions = self._portions(iter(records))
        if not strict:
            return self._keep_good(portions, on_bad, on_progress)
        try:
            with self.reservations.intake() as intake:
                return self._keep_all(intake, portions, on_bad, on_progress)
        except _KeepNone as none:
            return Imported(bad=none.bad)

    def _keep_all(
        self,
        intake: Intake,
        portions: Iterable[list[Record | BadLine]],
        on_bad: Callable[[BadLine], None],
        on_progress: Callable[[Imported], None],
    ) -> Imported:
        done = Imported()
        for portion in portions:
            done += self._store(intake, portion, on_bad)
            on_progress(done)
        if done.bad:
            raise _KeepNone(done.bad)
        return done

    def _keep_good(
        self,
        portions: Iterable[list[Record | BadLine]],
        on_bad: Callable[[BadLine], None],
        on_progress: Callable[[Imported], None],
    ) -> Imported:
        done = Imported()
        for portion in portions:
            with self.reservations.intake() as intake:
                counted = self._store(intake, portion, on_bad)
            done += counted
            on_progress(done)
        return done

    def _portions(self, records: Iterator[Record | BadLine]) -> Iterator[list[Record | BadLine]]:
        portion, held = list[Record | BadLine](), 0
        for record in records:
            portion.append(record)
            held += _held(record)
            if len(portion) >= self.batch or held >= _HELD:
                yield portion
                portion, held = [], 0
        if portion:
            yield portion

    def _store(self, intake: Intake, portion: list[Record | BadLine], on_bad: Callable[[BadLine], None]) -> Imported:
        drafts = [self._judge(intake, record) for record in portion]
        judged = with_their_files(intake, drafts, self.check.max_message_bytes)
        stored = iter(intake.add_many([one for one in judged if not isinstance(one, MailbatchError)]))
        counted = Imported()
        for record, one in zip(portion, judged, strict=True):
            result = one if isinstance(one, MailbatchError) else next(stored)
            if isinstance(result, Stored):
                counted += Imported(new=1) if result.new else Imported(known=1)
            else:
                on_bad(BadLine(record.line, _reasons(result), record.file))
                counted += Imported(bad=1)
        return counted

    def _judge(self, intake: Intake, record: Record | BadLine) -> Reservation | InvalidReservation:
        if isinstance(record, BadLine):
            return InvalidReservation(list(record.reasons))
        draft = record.draft
        try:
            if self.files is None or not draft.mail.attachments:
                return self.check(draft)
            mail, files = self.files.attached(draft.mail)
            reservation = self.check(replace(draft, mail=mail))
        except InvalidReservation as error:
            return error
        self.files.store(intake, files)
        return reservation


def _held(record: Record | BadLine) -> int:
    message = record.draft.mail.message if isinstance(record, Record) else None
    return len(message) if isinstance(message, bytes) else 0


def _reasons(error: MailbatchError) -> tuple[str, ...]:
    return tuple(error.problems) if isinstance(error, InvalidReservation) else (str(error),)


class _KeepNone(Exception):
    """Rolls back the transaction of a strict import."""

    def __init__(self, bad: int) -> None:
        super().__init__(bad)
        self.bad = bad
