"""A thread that owns one connection to the relay: it opens it, opens it again, and carries the mails of its owner."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import re
import select
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mailbatch.domain.outcome import Answered, NotSent, Outcome, RelayFault
from mailbatch.infrastructure.smtp.connection import Connection
from mailbatch.infrastructure.smtp.dialogue import Choked, Dialogue
from mailbatch.infrastructure.smtp.protocol import Protocol
from mailbatch.infrastructure.smtp.relay import RelayError, SmtpRelay

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable, Sequence

    from mailbatch.domain.message import Message
    from mailbatch.infrastructure.smtp.protocol import Manners

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")
_ASK_AGAIN = 0.1
_ENOUGH_QUEUED = 64 * 1024
"""Bytes waiting for the kernel, beyond which no further mail is begun: its permit would be old when it goes."""
_AHEAD = 16
"""Mails that a pipelining wire holds: one is answered, one is next, and some come while it writes."""
_TOLD_TOGETHER = 4
"""Outcomes that are told in one go while there is more to do: each telling wakes the owner."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The relay let us in."""


@dataclass(frozen=True, slots=True)
class Room:
    """``wire`` can hold so many mails from now on, those included that it has."""

    wire: Wire
    mails: int


@dataclass(frozen=True, slots=True)
class Done:
    """Some mails, of so many bytes in all, are through, for better or worse."""

    wire: Wire
    outcomes: Sequence[Outcome]
    size: int


@dataclass(frozen=True, slots=True)
class Crashed:
    """The thread of a wire ended by an error that is a mistake of ours, or of who gave the permit."""

    error: BaseException


Event: TypeAlias = Opened | Room | Done | Crashed


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms a wire works: ``window`` mails in flight; a new connection after so many (0: no limit)."""

    relay: SmtpRelay
    permit: Callable[[], bool]
    manners: Manners
    window: int
    mails_per_connection: int


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


class Late(Choked):
    """The relay took longer than a phase may take."""


class _Session:
    """An open connection, the dialogue over it, and since when it waits for what it waits for."""

    def __init__(self, connection: Connection, dialogue: Dialogue, bell: int) -> None:
        self.connection = connection
        self.dialogue = dialogue
        self._bell = bell
        self._poll = select.poll()
        self._socket = connection.begin_dialogue()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(bell, select.POLLIN)
        self._writing = False
        self._progress = -1
        self._since = 0.0
        # A write through TLS that did not go has to be tried again with the same bytes.
        self._record: int | None = None

    def push(self) -> list[Message]:
        """Write what is queued, as far as it goes; answer the mails that are not to wait for it in the queue."""
        dialogue, connection = self.dialogue, self.connection
        while dialogue.pending:
            # What is here already cannot be the answer to what is about to be written.
            self.hear()
            chunk = dialogue.chunk(self._record or connection.record)
            sent = connection.write_now(chunk)
            self._record = None
            if sent:
                dialogue.handed(sent)
            if sent < len(chunk):
                if connection.tls_version is None:
                    return dialogue.take_back()
                self._record = len(chunk) if not sent else None
                break
        return []

    def hear(self) -> None:
        """Take in what the relay has said."""
        if data := self.connection.read_now():
            self.dialogue.said(data)

    def wait(self) -> bool:
        """Wait until there is something to read, room to write, or the bell rings; answer whether that is so.

        Raises:
            Late: the phase has lasted too long.
        """
        if self.connection.has_unread:
            return False
        writing = self.dialogue.pending > 0
        if writing != self._writing:
            self._poll.modify(self._socket, select.POLLIN | select.POLLOUT if writing else select.POLLIN)
            self._writing = writing
        return any(ready == self._bell for ready, _ in self._poll.poll(self._patience()))

    def _patience(self) -> float | None:
        """Milliseconds that the phase may still take; it is begun anew only by progress, not by single bytes."""
        phase = self.dialogue.phase()
        if phase is None:
            return None
        now = time.monotonic()
        if self.dialogue.progress != self._progress:
            self._progress, self._since = self.dialogue.progress, now
        relay = self.connection.relay
        allowed = relay.data_timeout if phase.data else relay.timeout
        if (left := self._since + allowed - now) <= 0:
            raise Late(f"{phase.doing} took longer than {allowed:g} s")
        return left * 1000 + 1


class Wire:
    """One connection with its thread.

    The owner calls ``hand_over``, ``dismiss``, ``abort`` and ``join``; all that happens comes back on ``events``.
    """

    def __init__(self, terms: Terms, events: queue.SimpleQueue[Event]) -> None:
        self._terms = terms
        self._relay = terms.relay
        self._permit = terms.permit
        self._events = events
        self._inbox: deque[Message] = deque()
        self._connection: Connection | None = None
        self._session: _Session | None = None
        self._backoff = Backoff()
        self._dismissed = False
        self._asleep = False
        self._room = 1
        self._closing = threading.Event()
        self._ear, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        # The run's id, which the owner's log lines carry, belongs on this thread's too.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._work,), name=f"smtp {self._relay.name}", daemon=True)
        self._thread.start()

    def hand_over(self, message: Message) -> None:
        """Carry ``message``; the outcome comes in a ``Done``."""
        self._inbox.append(message)
        if self._asleep:
            self._ring()

    def dismiss(self) -> None:
        """No more mails will come: say QUIT and end."""
        self._dismissed = True
        self._closing.set()
        self._ring()

    def abort(self) -> None:
        """End the dialogue in progress where it stands."""
        self._closing.set()
        if (connection := self._connection) is not None:
            connection.abort()

    def join(self, seconds: float) -> bool:
        """Wait for the thread's end; answer whether it came. Nothing else may be called afterwards."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            return False
        os.close(self._ear)
        os.close(self._bell)
        return True

    def _ring(self) -> None:
        self._asleep = False
        # If there is no room the thread has not heard the last one yet, and that will do.
        with contextlib.suppress(BlockingIOError):
            os.write(self._bell, b"!")

    # --- in the thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not (self._dismissed and not self._inbox and (self._session is None or self._is_idle())):
                self._turn()
        except BaseException as error:  # noqa: BLE001 (the owner raises it again)
            self._events.put(Crashed(error))
        finally:
            self._part()

    def _is_idle(self) -> bool:
        return self._session is None or self._session.dialogue.idle

    def _turn(self) -> None:
        session = self._session
        if session is None:
            self._start() if self._inbox else self._sleep(None)
            return
        try:
            self._write(session)
            self._report(session)
            if not self._ends(session) and (session.dialogue.pending or not self._may_begin(session)):
                self._sleep(session)
                session.hear()
                self._report(session)
        except RelayError as error:
            self._lose(session, error)

    def _sleep(self, session: _Session | None) -> None:
        """Wait for the relay or the owner. Whoever rings between the two looks at the inbox is heard by the poll."""
        self._asleep = session is None or self._has_room(session)
        if self._asleep and (self._inbox or self._dismissed):
            self._asleep = False
        elif session is None or session.wait():
            os.read(self._ear, 64)
        self._asleep = False

    # --- a session -----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._permit():
            self._say(NotSent(self._inbox[0].claim), self._inbox.popleft())
            return
        try:
            self._session = self._open()
        except RelayError as error:
            self._drop()
            message = self._inbox.popleft()
            fault = RelayFault(message.claim, self._relay.name, str(error), error.hopeless)
            self._tell([(message, fault)])

    def _open(self) -> _Session:
        connection = Connection(self._relay)
        # In this order: abort() either finds the connection, or has set the flag before it is read.
        self._connection = connection
        if self._closing.is_set():
            raise RelayError("the transport was closed")
        connection.open()
        features = connection.esmtp_features
        protocol = self._terms.manners.choose(features)
        dialogue = Dialogue(self._relay.name, features, protocol, self._terms.window)
        session = _Session(connection, dialogue, self._ear)
        security = connection.tls_version or "in clear"
        logger.debug("%s: connected (%s, %s)", self._relay.name, security, protocol.name)
        self._events.put(Opened())
        return session

    def _batch(self, session: _Session) -> int:
        """How much room makes it worth while to begin mails: many in one write cost less, and lose no time."""
        dialogue = session.dialogue
        whole = self._terms.window if dialogue.protocol is Protocol.BDAT and dialogue.finished else 1
        return (whole + 7) // 8

    def _may_begin(self, session: _Session) -> bool:
        dialogue = session.dialogue
        return bool(self._inbox) and dialogue.room >= self._batch(session) and not self._worn(session)

    def _has_room(self, session: _Session) -> bool:
        return session.dialogue.room >= self._batch(session) and not session.dialogue.pending

    def _worn(self, session: _Session) -> bool:
        return 0 < self._terms.mails_per_connection <= session.dialogue.begun

    def _write(self, session: _Session) -> None:
        dialogue = session.dialogue
        if self._may_begin(session):
            while self._inbox and dialogue.room > 0 and dialogue.pending < _ENOUGH_QUEUED and not self._worn(session):
                # Popped only when the permit is there, and asked in the thread that writes.
                if self._permit():
                    dialogue.begin(self._inbox.popleft())
                else:
                    message = self._inbox.popleft()
                    self._say(NotSent(message.claim), message)
        if dialogue.pending:
            self._inbox.extendleft(reversed(session.push()))

    def _ends(self, session: _Session) -> bool:
        """Whether this session has done what it can, and is over."""
        dialogue = session.dialogue
        if not dialogue.idle:
            return False
        self._report(session)
        if dialogue.confused is not None:
            self._terms.manners.step_down(dialogue.protocol, self._relay.name, _masked(dialogue.confused))
            self._drop()
            self._inbox.extendleft(reversed(dialogue.again))
            self._hold(1)
            return True
        if self._worn(session):
            self._part()
            return True
        return self._dismissed and not self._inbox

    def _lose(self, session: _Session, error: RelayError) -> None:
        dialogue = session.dialogue
        self._drop()
        untouched = dialogue.lost(error)
        if not dialogue.idle_at_loss and not self._closing.is_set():
            likely = isinstance(error, Choked)
            self._terms.manners.suspect(dialogue.protocol, self._relay.name, _masked(str(error)), likely=likely)
        if dialogue.confused is not None:
            self._terms.manners.step_down(dialogue.protocol, self._relay.name, _masked(dialogue.confused))
        done = dialogue.collect()
        if untouched and not dialogue.finished and dialogue.confused is None:
            first = untouched.pop(0)
            done.append((first, RelayFault(first.claim, self._relay.name, str(error), error.hopeless)))
        self._inbox.extendleft(reversed(untouched))
        self._hold(1)
        logger.debug("%s: a session ended: %s", self._relay.name, _masked(str(error)))
        self._tell(done)

    # --- what is told --------------------------------------------------------------------------------------------

    def _report(self, session: _Session) -> None:
        dialogue = session.dialogue
        if dialogue.collectable < _TOLD_TOGETHER <= len(self._inbox) and not dialogue.idle and self._room > 1:
            return
        if not (done := dialogue.collect()):
            return
        if dialogue.finished:
            self._terms.manners.prove(dialogue.protocol)
            self._backoff.reset()
            self._hold(self._capacity(dialogue.protocol))
        self._tell(done)

    def _capacity(self, protocol: Protocol) -> int:
        """Mails worth holding: those in flight, and some to go when the first of them are answered."""
        window = self._terms.window
        match protocol:
            case Protocol.BDAT:
                return window + window // 2
            case Protocol.PIPELINING:
                return min(window, _AHEAD)
            case Protocol.DATA:
                return 1

    def _hold(self, mails: int) -> None:
        if mails != self._room:
            self._room = mails
            self._events.put(Room(self, mails))

    def _say(self, outcome: Outcome, message: Message) -> None:
        self._events.put(Done(self, [outcome], len(message.data)))

    def _tell(self, done: Sequence[tuple[Message, Outcome]]) -> None:
        """Report, and after a fault leave the relay alone for a while."""
        if not done:
            return
        faults = [outcome for _, outcome in done if isinstance(outcome, RelayFault)]
        if faults:
            self._hold(0)
        outcomes = [outcome for _, outcome in done]
        self._events.put(Done(self, outcomes, sum(len(message.data) for message, _ in done)))
        for fault in faults:
            self._log(fault)
        if any(isinstance(outcome, Answered) for outcome in outcomes):
            self._backoff.reset()
        if faults:
            self._rest(self._backoff.pause())
            self._hold(1)

    def _log(self, fault: RelayFault) -> None:
        # What we broke off is no news.
        level = logging.DEBUG if self._closing.is_set() else logging.WARNING
        reason, reservation = _masked(fault.reason), fault.claim.reservation_id
        logger.log(level, "%s: %s (reservation %s)", self._relay.name, reason, reservation)

    # --- how it ends ---------------------------------------------------------------------------------------------

    def _part(self) -> None:
        """Close the connection in good manners."""
        if self._connection is not None and self._is_idle():
            self._connection.hang_up()
        self._drop()

    def _drop(self) -> None:
        """Close the connection as it is."""
        connection, self._connection, self._session = self._connection, None, None
        if connection is not None:
            connection.close()

    def _rest(self, seconds: float) -> None:
        """Leave the relay alone; not while nothing may be sent anyway, and not when it is time to close."""
        while seconds > 0 and self._permit() and not self._closing.wait(min(seconds, _ASK_AGAIN)):
            seconds -= _ASK_AGAIN


def _masked(reason: str) -> str:
    """Relays quote addresses, and logs are read by more people than mails."""
    return _ADDRESS.sub("<address>", reason)
