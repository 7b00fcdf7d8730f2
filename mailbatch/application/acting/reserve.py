"""Reserves mails: checks them, and stores them in the transaction of the caller."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mailbatch.application.acting.attaching import named_files, problem_of_stored, store_files
from mailbatch.application.sending.compose import problems_of, size_problem
from mailbatch.domain.context import as_json
from mailbatch.domain.errors import CannotCompose, InvalidReservation, KeyConflict, MailbatchError
from mailbatch.domain.file_rules import NO_RULES, FileRules, attachment_problems
from mailbatch.domain.message_id import own_message_id
from mailbatch.domain.reservation import Mail, Reservation, without_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.application.acting.attaching import Attached
    from mailbatch.application.ports.stores import Intake, Reservations
    from mailbatch.application.ports.system import AddressReader, HeaderCheck, MessageCheck
    from mailbatch.domain.reservation import Stored


# A quoted text comes from the caller.
_NAMES_A_COLUMN = re.compile(r"""^\w+(?=:| line )|"[^"]*"|(?<!\w)'[^']*'|\b(?:recipients|[a-z]+_[a-z]+)\b""")


def renamed(line: str, names: Mapping[str, str]) -> str:
    """Return the error ``line`` with the names of ``names`` in place of the columns'."""
    return _NAMES_A_COLUMN.sub(lambda found: names.get(found[0], found[0]), line)


@contextmanager
def with_names(names: Mapping[str, str]) -> Iterator[None]:
    """Translate the columns in errors of the block into the names that the caller uses: ``names``, by column."""
    try:
        yield
    except InvalidReservation as error:
        raise InvalidReservation([renamed(problem, names) for problem in error.problems]) from None
    except CannotCompose as error:
        raise CannotCompose([renamed(line, names) for line in error.errors]) from None
    except KeyConflict as error:
        raise KeyConflict(renamed(str(error), names)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A reservation as the caller gives it, not checked. ``id=None``: make a new id."""

    mail: Mail
    id: UUID | None = None
    scheduled_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = 0
    idempotency_key: str | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDraft:
    """Makes a reservation of a draft, or reports everything that is wrong with it at once.

    ``source_problems`` returns what is wrong with the templates of a mail, whatever its context. ``file_rules``: what
    is known here about files.
    """

    new_id: Callable[[], UUID]
    read_addresses: AddressReader
    unwritable_headers: HeaderCheck
    check_message: MessageCheck
    max_message_bytes: int
    file_rules: FileRules = NO_RULES
    source_problems: Callable[[Mail], list[str]] | None = None

    def __call__(self, draft: Draft) -> Reservation:
        """Return the reservation to store.

        Raises:
            InvalidReservation: with one line for each thing that is wrong.
        """
        problems = list[str]()
        mail = _with_json(without_empty(draft.mail), problems)
        problems += problems_of(mail, self.read_addresses, self.unwritable_headers, self.max_message_bytes)
        if mail.attachments:
            problems += attachment_problems(mail.attachments, self.file_rules, self.max_message_bytes)
        own_id = None
        if isinstance(mail.message, bytes) and mail.message:
            problems += self._message_problems(mail.message)
            own_id = own_message_id(mail.message)
        if self.source_problems is not None:
            problems += self.source_problems(mail)
        try:
            reservation = Reservation(
                id=draft.id or self.new_id(),
                mail=mail,
                scheduled_at=draft.scheduled_at,
                expires_at=draft.expires_at,
                priority=draft.priority,
                idempotency_key=draft.idempotency_key,
                tag=draft.tag or None,
                message_id=own_id,
            )
        except InvalidReservation as error:
            # Both check the mail.
            raise InvalidReservation(list(dict.fromkeys([*problems, *error.problems]))) from None
        if problems:
            raise InvalidReservation(problems)
        return reservation

    def _message_problems(self, message: bytes) -> list[str]:
        if too_large := size_problem("message:", len(message), self.max_message_bytes):
            return [too_large]
        problem = self.check_message(message)
        return [f"message: {problem}"] if problem else []


def _with_json(mail: Mail, problems: list[str]) -> Mail:
    """Return ``mail`` with its context as JSON; append what is wrong with it to ``problems``."""
    if not isinstance(mail.context, Mapping):
        return mail
    try:
        context = as_json(mail.context)
    except InvalidReservation as error:
        problems += error.problems
        context = {}
    return mail if context is mail.context else replace(mail, context=context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Stores one mail. It exists when the transaction of ``intake`` is committed, not before."""

    check: CheckDraft
    intake: Intake

    def __call__(self, draft: Draft, files: Sequence[Attached] = ()) -> Stored:
        """Check ``draft`` and store it; if its key was used before, return the reservation that it stored.

        ``files``: those of its attachments whose contents may not be stored yet.

        Raises:
            InvalidReservation: with one line for each thing that is wrong.
            KeyConflict: if its key belongs to a reservation with other content.
        """
        reservation = self.check(draft)
        if reservation.mail.attachments:
            store_files(self.intake, reservation.mail.attachments, self.check.max_message_bytes, files)
        return self.intake.add(reservation)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveMany:
    """Stores the good ones of many mails in one transaction, and returns the errors of the others."""

    check: CheckDraft
    reservations: Reservations

    def __call__(
        self,
        drafts: Sequence[Draft | MailbatchError],
        seal: Callable[[Intake, Sequence[Stored | MailbatchError]], None] = lambda _intake, _results: None,
    ) -> list[Stored | MailbatchError]:
        """Return a result for each draft, in order. A draft that could not be read is given as its error.

        ``seal`` is called with the results before the transaction is committed. Raises ``StoreError``.
        """
        judged = [draft if isinstance(draft, MailbatchError) else self._judge(draft) for draft in drafts]
        with self.reservations.intake() as intake:
            judged = with_their_files(intake, judged, self.check.max_message_bytes)
            good = [reservation for reservation in judged if not isinstance(reservation, MailbatchError)]
            stored = iter(intake.add_many(good))
            results = [r if isinstance(r, MailbatchError) else next(stored) for r in judged]
            seal(intake, results)
        return results

    def _judge(self, draft: Draft) -> Reservation | InvalidReservation:
        try:
            return self.check(draft)
        except InvalidReservation as error:
            return error


def with_their_files(
    intake: Intake, judged: Sequence[Reservation | MailbatchError], max_message_bytes: int
) -> list[Reservation | MailbatchError]:
    """Return ``judged`` with an error in place of each reservation whose stored files are not there, or too large.

    The files are kept from being purged by the transaction of ``intake``.
    """
    named = [set() if isinstance(one, MailbatchError) else named_files(one.mail.attachments) for one in judged]
    if not any(named):
        return list(judged)
    sizes = intake.touch_files(set[str]().union(*named))

    def checked(one: Reservation | MailbatchError, ids: set[str]) -> Reservation | MailbatchError:
        if isinstance(one, MailbatchError) or not ids:
            return one
        return problem_of_stored(one.mail.attachments, sizes, max_message_bytes) or one

    return list(map(checked, judged, named))
