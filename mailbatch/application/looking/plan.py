"""Plan the next run: compose what it would send, and send nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from email.policy import default
from typing import TYPE_CHECKING

from mailbatch.application.looking.outlook import rate_of_last_runs
from mailbatch.application.sending.gates.gates import first_that_holds
from mailbatch.domain.content import beginning_of
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.message_subject import own_subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.application.looking.carried import Carried
    from mailbatch.application.ports.gating import Gate
    from mailbatch.application.ports.reports import Reports, Upcoming
    from mailbatch.application.ports.sending import Composer
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.reservation import Mail

_LONGEST_HEAD = 65_536
"""Bytes of a message's head from which its subject is read back."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One mail as it would be sent. ``errors`` say why it cannot be composed; ``size`` of the message in bytes.

    ``waits_for``: why a gate will hold it back.
    """

    mail: ClaimedMail
    errors: tuple[str, ...] = ()
    size: int = 0
    head: bytes = b""
    waits_for: str | None = None

    @property
    def subject(self) -> str:
        """The subject as a reader will see it; the stored subject or the template's name if it cannot be composed."""
        if self.head and len(self.head) <= _LONGEST_HEAD:  # a subject of megabytes takes minutes to be read back
            return str(BytesHeaderParser(policy=default).parsebytes(self.head)["Subject"] or "")
        mail = self.mail.mail
        if mail.message:
            with suppress(CannotCompose):  # it was deleted meanwhile
                return own_subject(beginning_of(mail.message)) or ""
        return mail.subject or (f"template {mail.template}" if mail.template else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The next run in short. ``by``: what is due by then; None: by now. ``due`` mails, or more unless ``exact``.

    ``rate``: mails a second of the last runs, or None. ``first``: the mails that go first, and what each carries.
    """

    by: datetime | None
    due: int
    exact: bool
    rate: float | None
    first: Sequence[tuple[Planned, Carried]]

    @property
    def seconds(self) -> float | None:
        """How long the run takes at that rate."""
        return self.due / self.rate if self.rate else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRun:
    """Say what the next run would send, and which mails it could not compose.

    ``show_carried`` returns what a mail carries beside its text. ``gates`` hold mails back.
    """

    upcoming: Upcoming
    compose: Composer
    reports: Reports
    show_carried: Callable[[Mail, UUID], Carried]
    now: Callable[[], datetime]
    gates: Sequence[Gate] = ()

    def __call__(self, by: datetime | None, limit: int) -> Iterator[Planned]:
        """Compose the first ``limit`` mails that are due by ``by`` (None: now), one after the other."""
        for mail in self.upcoming.mails(by, limit):
            try:
                message = self.compose(mail)
            except CannotCompose as error:
                yield Planned(mail, tuple(error.errors), waits_for=self._waits_for(mail, by))
            else:
                waits_for = self._waits_for(mail, by)
                yield Planned(mail, size=len(message.data), head=message.head, waits_for=waits_for)

    def first(self, by: datetime | None, limit: int, enough: Callable[[], bool]) -> Plan:
        """Return the plan with its first ``limit`` mails, or those that are composed until ``enough`` returns True."""
        (due, exact), rate = self.upcoming.count(by), self.rate(SEND_ALL)
        found: list[tuple[Planned, Carried]] = []
        for one in self(by, limit):
            found.append((one, self.carried(one)))
            if enough():
                break
        return Plan(by=by, due=due, exact=exact, rate=rate, first=found)

    def _waits_for(self, mail: ClaimedMail, by: datetime | None) -> str | None:
        answer = first_that_holds(self.gates, mail, by or self.now())
        return answer.reason if answer is not None else None

    def carried(self, one: Planned) -> Carried:
        """Return what ``one`` carries beside its text. Reads no content of a file."""
        return self.show_carried(one.mail.mail, one.mail.claim.reservation_id)

    def rate(self, job: str) -> float | None:
        """Return the mails a second of the last runs of ``job``; see ``rate_of_last_runs``."""
        return rate_of_last_runs(self.reports, job)
