"""Try a mail without a reservation: render it, or send it once to an operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.claimed import ClaimedMail
from mailbatch.domain.errors import Busy, CannotCompose, InvalidReservation, NotFound
from mailbatch.domain.letter import Rendered
from mailbatch.domain.locale import language_text
from mailbatch.domain.message import Claim
from mailbatch.domain.outcome import ContentFault, Kind, RelayFault, Replied
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.reservation import empty_message_problem, problems_beside_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from mailbatch.application.ports.sending import Composer, Renderer, Transport
    from mailbatch.application.ports.stores import Reservations
    from mailbatch.application.ports.system import MessageReader
    from mailbatch.domain.content import Content
    from mailbatch.domain.outcome import Outcome
    from mailbatch.domain.reservation import Mail
    from mailbatch.domain.seen_message import SeenMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class MailPreview:
    """A mail as it would be now.

    ``message``: what it is if it is a finished message, of which ``rendered`` has what a mail client shows.
    ``served_in``: the languages of the template's files from which it is made.
    """

    rendered: Rendered
    message: SeenMessage | None = None
    locale: str | None = None
    served_in: Sequence[str] = ()

    @property
    def language(self) -> str | None:
        """Its language in words; None if it has none."""
        return language_text(self.locale, self.served_in)


@dataclass(frozen=True, slots=True)
class Preview:
    """Render a mail that is given, or one that is reserved.

    ``read`` reads finished messages. ``served_in`` returns the languages of the files that serve a mail.
    """

    render: Renderer
    reservations: Reservations
    read: MessageReader
    served_in: Callable[[Mail], Sequence[str]]

    def __call__(self, mail: Mail) -> Rendered:
        """Return the parts of a mail without a finished message.

        Raises ``CannotCompose`` with one line for each part that fails.
        """
        try:
            return self.render(mail)
        except Busy:
            raise
        except CannotCompose as error:
            if empty := empty_message_problem(mail):
                raise CannotCompose([empty]) from error
            raise
        except Exception as error:
            # A template may raise any error; the fault is always the template's.
            said = one_line(f"{type(error).__name__}: {error}")[:300]
            raise CannotCompose([f"cannot be rendered: {said}"]) from error

    def shown(self, mail: Mail) -> MailPreview:
        """Return ``mail`` as it would be now. Raises ``CannotCompose``."""
        if mail.message:
            return self._finished(mail, mail.message)
        return MailPreview(rendered=self(mail), locale=mail.locale, served_in=self.served_in(mail))

    def stored(self, reservation_id: UUID) -> MailPreview:
        """Return a reservation as it would be now. Raises ``NotFound`` and ``CannotCompose``."""
        row = self.reservations.get(reservation_id)
        if row is None:
            raise NotFound(f"no reservation {reservation_id}")
        return self.shown(row.mail)

    def _finished(self, mail: Mail, message: bytes | Content) -> MailPreview:
        if problems := list(problems_beside_message(mail)):
            raise CannotCompose(problems)
        try:
            seen = self.read(message)
        except ValueError as error:
            raise CannotCompose([f"message: {error}"]) from error
        rendered = Rendered(subject=seen.fields.get("Subject", ""), text=seen.text, html=seen.html)
        return MailPreview(rendered=rendered, message=seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The relay's verdict on a mail, and its reply.

    ``outcome``: ``sent``, ``deferred``, ``failed``, ``in_doubt`` or ``relay_fault``.
    """

    outcome: str
    relay: str | None
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrySending:
    """Send one mail at once to the relay. It is not stored, and not tried again.

    ``permit`` returns False when the caller has waited long enough for a free connection.
    """

    compose: Composer
    transport: Transport
    permit: Callable[[], bool]
    new_id: Callable[[], UUID]
    message_id: Callable[[UUID], str]

    def __call__(self, mail: Mail) -> Tried:
        """Return the outcome. Raises ``InvalidReservation`` and ``CannotCompose``."""
        if problems := list(mail.problems()):
            raise InvalidReservation(problems)
        own = self.new_id()
        claimed = ClaimedMail(
            claim=Claim(own, 1), index=1, mail=mail, message_id=self.message_id(own), attempts=0, earlier={}
        )
        message = self.compose(claimed)
        [outcome] = [o for o in self.transport.send([message], self.permit) if o is not None]
        return _tried(outcome)


_NAMES = {Kind.ACCEPTED: "sent", Kind.DEFERRED: "deferred", Kind.REJECTED: "failed", Kind.NO_VERDICT: "in_doubt"}


def _tried(outcome: Outcome) -> Tried:
    if isinstance(outcome, Replied):
        worst = max(outcome.verdicts.values(), key=lambda verdict: list(Kind).index(verdict.kind))
        return Tried(outcome=_NAMES[worst.kind], relay=outcome.relay, reply=str(worst.reply))
    if isinstance(outcome, ContentFault):
        return Tried(outcome="deferred", relay=outcome.relay, reply=outcome.reason)
    if isinstance(outcome, RelayFault):
        return Tried(outcome="relay_fault", relay=outcome.relay, reply=outcome.reason)
    return Tried(outcome="relay_fault", relay=None, reply="no connection to the relay was free in time")
