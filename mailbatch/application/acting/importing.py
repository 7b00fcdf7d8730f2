"""Reserves many mails from a stream of records: stores the good ones, reports the bad ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from mailbatch.application.acting.records import BadLine
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mailbatch.application.acting.records import Record
    from mailbatch.application.acting.reserve import CheckDraft
    from mailbatch.application.ports.stores import Intake, Reservations
    from mailbatch.domain.reservation import Reservation

BATCH = 500
"""Records of one transaction: enough to be fast, few enough that no lane waits for it."""


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
    """Reserves the mails of ``records``, in portions and in constant memory."""

    check: CheckDraft
    reservations: Reservations
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
        while portion := list(islice(records, self.batch)):
            yield portion

    def _store(self, intake: Intake, portion: list[Record | BadLine], on_bad: Callable[[BadLine], None]) -> Imported:
        judged = [self._judge(record) for record in portion]
        good = [(line, found) for line, found in judged if not isinstance(found, BadLine)]
        answers = dict(zip((line for line, _ in good), intake.add_many([r for _, r in good]), strict=True))
        counted = Imported()
        for line, found in judged:
            answer = found if isinstance(found, BadLine) else answers[line]
            if isinstance(answer, Stored):
                counted += Imported(new=1) if answer.new else Imported(known=1)
            else:
                on_bad(answer if isinstance(answer, BadLine) else BadLine(line, (str(answer),)))
                counted += Imported(bad=1)
        return counted

    def _judge(self, record: Record | BadLine) -> tuple[int, Reservation | BadLine]:
        if isinstance(record, BadLine):
            return record.line, record
        try:
            return record.line, self.check(record.draft)
        except InvalidReservation as error:
            return record.line, BadLine(record.line, tuple(error.problems))


class _KeepNone(Exception):
    """Rolls back the transaction of a strict import."""

    def __init__(self, bad: int) -> None:
        super().__init__(bad)
        self.bad = bad
