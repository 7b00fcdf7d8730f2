"""The way to a relay over several connections: a stream of messages in, a stream of outcomes out."""

from __future__ import annotations

import logging
import queue
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.protocol import Manners
from mailbatch.infrastructure.smtp.wire import Crashed, Done, Event, Opened, Room, Terms, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from mailbatch.domain.message import Message
    from mailbatch.domain.outcome import Outcome
    from mailbatch.infrastructure.smtp.relay import SmtpRelay

logger = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds to wait for a thread that was told to end: more than it needs, unless the name server hangs."""


_IN_A_ROW = 8
"""Mails that a wire gets one after the other before the next wire gets some."""


@dataclass(frozen=True)
class SmtpTransport:
    """A ``Transport`` to ``relay``: up to ``window`` mails in flight on each of up to ``connections`` connections.

    How many of the window a relay lets us use is for its extensions to say, see ``protocol``; what is in flight when a
    connection breaks has no verdict, so the window is also the bound of what may go out twice.
    ``manners`` keeps what was learnt of the relay: give the same to all transports of a process.
    ``byte_budget``: bytes of mails in flight beyond which no further one is taken (a single one always is).
    ``mails_per_connection``: after so many a connection is closed and opened anew; 0 for no limit.
    """

    relay: SmtpRelay
    connections: int = 4
    window: int = 32
    byte_budget: int = 4 * 2**20
    mails_per_connection: int = 0
    manners: Manners = field(default_factory=Manners)

    def send(self, messages: Iterable[Message], permit: Callable[[], bool]) -> Generator[Outcome, None, None]:
        """Send ``messages``, which are pulled in the caller's thread; ``permit`` is asked in others.

        Connections open when there is something for them, and close when this iterator ends or is closed. Closing it
        ends dialogues where they stand: who wants all outcomes lets ``messages`` end instead. If pulling ``messages``
        raises, what is in flight comes out first, then the error.
        """
        pool = _Pool(self, permit)
        try:
            yield from pool.stream(messages)
        finally:
            pool.close()


class _Pool:
    """The wires of one ``send``, and the account of what is in flight on them. Used in the caller's thread only."""

    def __init__(self, transport: SmtpTransport, permit: Callable[[], bool]) -> None:
        self._transport = transport
        self._terms = Terms(
            relay=transport.relay,
            permit=permit,
            manners=transport.manners,
            window=transport.window,
            mails_per_connection=transport.mails_per_connection,
        )
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._wires: list[Wire] = []
        self._load: dict[Wire, int] = {}
        self._room: dict[Wire, int] = {}
        self._next: Wire | None = None
        self._held = 0
        self._bytes = 0
        self._reached = False

    def stream(self, messages: Iterable[Message]) -> Iterator[Outcome]:
        source = iter(messages)
        failure: Exception | None = None
        while True:
            while not self._events.empty():
                yield from self._handle(self._events.get())
            if not self._has_room():
                yield from self._handle(self._events.get())
                continue
            try:
                message = next(source)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 (raised below, when the outcomes are out)
                failure = error
                break
            self._hand_over(message)
        while self._held:
            yield from self._handle(self._events.get())
        if failure is not None:
            raise failure

    def close(self) -> None:
        for wire in self._wires:
            if self._load[wire]:
                wire.abort()
            wire.dismiss()
        for wire in self._wires:
            if not wire.join(_PATIENCE):
                logger.warning("%s: a connection's thread does not end; left behind", self._transport.relay.name)

    def _has_room(self) -> bool:
        """Whether the next mail could be on the wire, or next in line for it, at once.

        Until the relay let us in once, one connection has to do: a refused password is not tried on all of them.
        """
        if self._held and self._bytes >= self._transport.byte_budget:
            return False
        self._next = self._choose()
        return self._next is not None or len(self._wires) < self._limit()

    def _limit(self) -> int:
        return self._transport.connections if self._reached else 1

    def _choose(self) -> Wire | None:
        """The wire for the next mail; None for a new one, or if there is no room.

        A wire gets some mails in a row, so that they go in one write. Before a wire gets ahead of what it can answer
        at once the others get their first, and all connections are opened. Among the idle it is the one used last:
        it is the least likely to have been closed for its idleness.
        """
        last = self._next
        if last is not None and self._load[last] % _IN_A_ROW > 0 and self._load[last] < self._room[last]:
            return last
        free = [wire for wire in self._wires if self._load[wire] < self._room[wire]]
        best = min(reversed(free), key=self._load.__getitem__, default=None)
        if best is None or (self._load[best] and len(self._wires) < self._limit()):
            return None if len(self._wires) < self._limit() else best
        return best

    def _hand_over(self, message: Message) -> None:
        wire = self._next = self._next or self._new_wire()
        self._load[wire] += 1
        self._held += 1
        self._bytes += len(message.data)
        wire.hand_over(message)

    def _new_wire(self) -> Wire:
        wire = Wire(self._terms, self._events)
        self._wires.append(wire)
        self._load[wire], self._room[wire] = 0, 1
        return wire

    def _handle(self, event: Event) -> Iterator[Outcome]:
        match event:
            case Done(wire, outcomes, size):
                self._bytes -= size
                self._held -= len(outcomes)
                self._load[wire] -= len(outcomes)
                yield from outcomes
            case Room(wire, mails):
                self._room[wire] = mails
            case Opened():
                self._reached = True
            case Crashed(error):
                raise error
