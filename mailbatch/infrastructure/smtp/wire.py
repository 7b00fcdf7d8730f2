"""A thread that owns one connection to the relay: it opens it, opens it again, and carries one mail after the other."""

from __future__ import annotations

import contextvars
import logging
import queue
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mailbatch.domain.outcome import Answered, NotSent, Outcome, RelayFault
from mailbatch.infrastructure.smtp.connection import Connection, SessionGone
from mailbatch.infrastructure.smtp.dialogue import DialogueBroken, transact
from mailbatch.infrastructure.smtp.relay import RelayError, SmtpRelay

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.domain.message import Message

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")
_ASK_AGAIN = 0.1


@dataclass(frozen=True, slots=True)
class Opened:
    """The relay let us in."""


@dataclass(frozen=True, slots=True)
class Ready:
    """``wire`` can take another mail."""

    wire: Wire


@dataclass(frozen=True, slots=True)
class Done:
    """``message`` is through, for better or worse; whether ``wire`` can take the next at once, ``ready`` says."""

    wire: Wire
    message: Message
    outcome: Outcome
    ready: bool


@dataclass(frozen=True, slots=True)
class Crashed:
    """The thread of a wire ended by an error that is a mistake of ours, or of who gave the permit."""

    error: BaseException


Event: TypeAlias = Opened | Ready | Done | Crashed


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


class Wire:
    """One connection with its thread.

    The owner calls ``hand_over``, ``dismiss``, ``abort`` and ``join``; all that happens comes back on ``events``.
    It takes one mail at a time: a wire that pipelines would say ``Ready`` earlier, and nothing else would change.
    """

    def __init__(
        self,
        relay: SmtpRelay,
        permit: Callable[[], bool],
        events: queue.SimpleQueue[Event],
        mails_per_connection: int,
    ) -> None:
        self._relay = relay
        self._permit = permit
        self._events = events
        self._mails_per_connection = mails_per_connection
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self._carried = 0
        self._backoff = Backoff()
        self._closing = threading.Event()
        # The run's id, which the owner's log lines carry, belongs on this thread's too.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._work,), name=f"smtp {relay.name}", daemon=True)
        self._thread.start()

    def hand_over(self, message: Message) -> None:
        """Carry ``message``; the outcome comes as ``Done``."""
        self._inbox.put(message)

    def dismiss(self) -> None:
        """No more mails will come: say QUIT and end."""
        self._closing.set()
        self._inbox.put(None)

    def abort(self) -> None:
        """End the dialogue in progress where it stands."""
        self._closing.set()
        if (connection := self._connection) is not None:
            connection.abort()

    def join(self, seconds: float) -> bool:
        """Wait for the thread's end; answer whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # --- in the thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (message := self._inbox.get()) is not None:
                self._one(message)
        except BaseException as error:  # noqa: BLE001 (the owner raises it again)
            self._events.put(Crashed(error))
        finally:
            self._part()

    def _one(self, message: Message) -> None:
        outcome = self._carry(message)
        faulty = isinstance(outcome, RelayFault)
        self._events.put(Done(self, message, outcome, ready=not faulty))
        if isinstance(outcome, Answered):
            self._backoff.reset()
        if 0 < self._mails_per_connection <= self._carried:
            self._part()
        if faulty:
            self._rest(self._backoff.pause())
            self._events.put(Ready(self))

    def _carry(self, message: Message) -> Outcome:
        try:
            return self._carry_on(message)
        except RelayError as error:
            self._drop()
            self._log(message, error)
            in_dialogue = isinstance(error, DialogueBroken)
            return RelayFault(message.claim, self._relay.name, str(error), error.hopeless, in_dialogue)

    def _log(self, message: Message, error: RelayError) -> None:
        # Relays quote addresses, and logs are read by more people than mails. What we broke off is no news.
        reason = _ADDRESS.sub("<address>", str(error))
        level = logging.DEBUG if self._closing.is_set() else logging.WARNING
        logger.log(level, "%s: %s (reservation %s)", self._relay.name, reason, message.claim.reservation_id)

    def _carry_on(self, message: Message) -> Outcome:
        """Over the open connection, if there is one and it still works; else over a new one."""
        if self._connection is not None and self._connection.is_open:
            try:
                self._connection.reset()
                return self._transact(self._connection, message)
            except SessionGone as error:
                logger.debug("%s: an idle connection had ended: %s", self._relay.name, error)
        self._drop()
        if not self._permit():
            return NotSent(message.claim)
        return self._transact(self._open(), message)

    def _transact(self, connection: Connection, message: Message) -> Outcome:
        if not self._permit():
            return NotSent(message.claim)
        self._carried += 1
        try:
            return Answered(message.claim, self._relay.name, transact(connection, message))
        except SessionGone:
            raise
        except RelayError as error:
            error.in_dialogue = True
            raise

    def _open(self) -> Connection:
        connection = Connection(self._relay)
        # In this order: abort() either finds the connection, or has set the flag before it is read.
        self._connection = connection
        if self._closing.is_set():
            raise RelayError("the transport was closed")
        connection.open()
        self._carried = 0
        logger.debug("%s: connected (%s)", self._relay.name, connection.tls_version or "in clear")
        self._events.put(Opened())
        return connection

    def _part(self) -> None:
        """Close the connection in good manners."""
        if self._connection is not None:
            self._connection.hang_up()
        self._drop()

    def _drop(self) -> None:
        """Close the connection as it is."""
        connection, self._connection = self._connection, None
        self._carried = 0
        if connection is not None:
            connection.close()

    def _rest(self, seconds: float) -> None:
        """Leave the relay alone; not while nothing may be sent anyway, and not when it is time to close."""
        while seconds > 0 and self._permit() and not self._closing.wait(min(seconds, _ASK_AGAIN)):
            seconds -= _ASK_AGAIN
