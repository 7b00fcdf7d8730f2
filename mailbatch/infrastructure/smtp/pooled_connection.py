"""The place of one connection: closed, being opened, open, or left alone for a while after a fault."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING

from mailbatch.domain.outcome import Outcome, RelayFault
from mailbatch.domain.reply_kinds import Concern, concern_of
from mailbatch.infrastructure.smtp.connect_attempt import ConnectAttempt
from mailbatch.infrastructure.smtp.dialogue import DIALOGUES
from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode
from mailbatch.infrastructure.smtp.errors import HungUp, NoSlot, ProtocolViolation, RelayError
from mailbatch.infrastructure.smtp.session import Session

if TYPE_CHECKING:
    from mailbatch.domain.message import Message
    from mailbatch.infrastructure.smtp.connect_attempt import Waker
    from mailbatch.infrastructure.smtp.connection import Connection
    from mailbatch.infrastructure.smtp.dialogue.base import Dialogue
    from mailbatch.infrastructure.smtp.transport_config import TransportConfig

logger = logging.getLogger(__name__)

NO_SLOT_PAUSE = 0.5
"""Seconds before another connection is asked for, when all that the relay may have are taken."""
_ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")


class Backoff:
    """How long to leave a faulty relay alone: seconds, doubled each time, until something works."""

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = self._next = first
        self._longest = longest

    def pause(self) -> float:
        """The seconds to wait now."""
        pause = self._next
        self._next = min(pause * 2, self._longest)
        return pause

    def reset(self) -> None:
        """Begin anew: it works."""
        self._next = self._first


class PooledConnection:
    """One of the connections of a transport; it comes and goes, the wire stays."""

    def __init__(self, terms: TransportConfig, *, held_back: bool) -> None:
        self.terms = terms
        self.session: Session | None = None
        self.opening: ConnectAttempt | None = None
        self.rests_until = 0.0
        """Nothing is opened before; on the monotonic clock."""
        self._held_back = held_back
        self._backoff = Backoff()
        self._crowded = Backoff(1.0, 30.0)

    @property
    def most_mails(self) -> int:
        """How many mails a connection may carry, by the settings and by what the relay said; 0 for no limit."""
        limits = self.terms.mails_per_connection, self.terms.capabilities.mails_per_connection
        return min(filter(None, limits), default=0)

    @property
    def is_closed(self) -> bool:
        """Whether there is no connection, and none in the making."""
        return self.session is None and self.opening is None

    def open(self, waker: Waker) -> None:
        """Begin to open a connection; ``waker`` rings when ``opened`` is to be called."""
        self.opening = ConnectAttempt(self.terms.relay, self.terms.slots, waker, self._try_out).start()

    def _try_out(self, connection: Connection) -> None:
        """Find out, in the opening's thread, whether a new connection may be spoken to in BDAT: see ADR 11."""
        capabilities = self.terms.capabilities
        if self._held_back or not capabilities.must_show_that_it_swallows(connection.esmtp_features):
            return
        match connection.swallows():
            case True:
                capabilities.swallows()
                return
            case False:
                capabilities.step_down(
                    DialogueMode.BDAT, self.terms.relay.name, "it reads a chunk that it refused as commands"
                )
            case None:
                reason = "it hung up on a chunk that it had to refuse"
                capabilities.suspect(DialogueMode.BDAT, self.terms.relay.name, reason, likely=False)
        connection.open()

    def opened(self, opening: ConnectAttempt) -> Session | RelayError:
        """Take over the connection that was being opened, or answer why it is none."""
        self.opening = None
        opening.join(1.0)  # it has said that it is done: the thread ends now
        error = opening.error
        if error is None:
            try:
                self.session = self._session(opening.connection)
            except RelayError as permanent_refusal:
                error = permanent_refusal
                hang_up(opening.connection, self.terms)
            else:
                return self.session
        if not isinstance(error, RelayError):
            raise error
        if not opening.aborted:
            self.rest(self._pause_after(error))
        return error

    def _pause_after(self, error: RelayError) -> float:
        if isinstance(error, NoSlot):
            return NO_SLOT_PAUSE
        is_crowded = error.reply is not None and concern_of(error.reply) is Concern.CONNECTION
        return (self._crowded if is_crowded else self._backoff).pause()

    def _session(self, connection: Connection) -> Session:
        features, name = connection.esmtp_features, self.terms.relay.name
        protocol = self.terms.capabilities.choose(features)
        if self._held_back:
            # With the last look between a body and its end BDAT takes as many round trips, and more care.
            protocol = min(protocol, DialogueMode.PIPELINING)
        dialogue = DIALOGUES[protocol](
            name,
            features,
            self.terms.window,
            held_back=self._held_back,
            may_look_ahead=self.terms.capabilities.looks_ahead,
        )
        session = Session(self, connection, dialogue)
        logger.debug("%s: connected (%s, %s)", name, connection.tls_version or "in clear", protocol.name)
        return session

    def rest(self, seconds: float) -> None:
        """Leave the relay alone for so long."""
        self.rests_until = time.monotonic() + seconds

    def works(self, session: Session) -> None:
        """A mail was answered."""
        self._backoff.reset()
        self.terms.capabilities.prove(session.dialogue.protocol, ahead=session.dialogue.ahead_is_taken)

    def drop(self, session: Session) -> None:
        """Close the connection as it is."""
        hang_up(self.part(session), self.terms)

    def part(self, session: Session) -> Connection:
        """Give away the open connection, so that somebody says farewell to the relay."""
        self.session = None
        return session.connection

    def confused(self, session: Session) -> list[Message]:
        """End a session, idle now, whose relay lost the thread; answer the mails that it certainly did not take."""
        self._step_down(session.dialogue)
        self.drop(session)
        return session.dialogue.again

    def lost(
        self, session: Session, error: RelayError, *, others: bool
    ) -> tuple[list[tuple[Message, Outcome]], list[Message]]:
        """End a session that broke: what came of its mails, and those that nothing can have become of.

        ``others``: there are other connections, which may carry the mails that this one may not.
        """
        dialogue, name = session.dialogue, self.terms.relay.name
        self.drop(session)
        if _is_over_its_mails(dialogue.closing or error):
            limit = dialogue.limit.name if dialogue.limit is not None else None
            reason = masked(str(dialogue.closing or error))
            self.terms.capabilities.ended(dialogue.finished, limit, idle=dialogue.idle, reason=reason)
        ahead = dialogue.ahead_is_doubtful
        untouched = dialogue.lost(error)
        error = dialogue.closing or error
        if dialogue.mode_failure is not None:
            self.terms.capabilities.step_down(dialogue.protocol, name, masked(dialogue.mode_failure))
        elif not dialogue.idle_at_loss and dialogue.limit is None:
            likely = isinstance(error, ProtocolViolation)
            self.terms.capabilities.suspect(dialogue.protocol, name, masked(str(error)), likely=likely, ahead=ahead)
        if dialogue.confused is not None:
            self._step_down(dialogue)
        elif untouched and not dialogue.finished and not (others and dialogue.limit is not None):
            # A relay that lets us in and then goes away each time must not be asked for ever.
            dialogue.blame(untouched.pop(0), error)
        logger.debug("%s: a session ended: %s", name, masked(str(error)))
        done = dialogue.collect()
        if dialogue.limit is not None and not self._is_worn_out(dialogue):
            self.rest(self._crowded.pause())
        elif any(isinstance(outcome, RelayFault) for _, outcome in done) or (done and not dialogue.finished):
            self.rest(self._backoff.pause())
        return done, untouched

    def _is_worn_out(self, dialogue: Dialogue) -> bool:
        """Whether the connection itself carried all that it may: the next one is opened at once."""
        return dialogue.finished > 0 and dialogue.limit is not None and dialogue.limit.name != "connections"

    def _step_down(self, dialogue: Dialogue) -> None:
        reason = masked(dialogue.confused or "")
        self.terms.capabilities.step_down(dialogue.protocol, self.terms.relay.name, reason)


def _is_over_its_mails(error: RelayError) -> bool:
    """Whether a connection may have ended because it carried enough mails, not because we were too fast."""
    if error.reply is None:
        return isinstance(error, HungUp)
    return concern_of(error.reply) not in {Concern.RATE, Concern.QUOTA, Concern.ACCOUNT}


def hang_up(connection: Connection, terms: TransportConfig) -> None:
    """Close it, and let others have its slot."""
    connection.close()
    if terms.slots is not None:
        terms.slots.give_back()


def masked(reason: str) -> str:
    """Relays quote addresses, and logs are read by more people than mails."""
    return _ADDRESS.sub("<address>", reason)
