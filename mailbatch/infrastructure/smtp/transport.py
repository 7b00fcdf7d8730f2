"""The way to a relay over several connections: a stream of messages in, a stream of outcomes out."""

from __future__ import annotations

import logging
import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.wire import Crashed, Done, Event, Opened, Ready, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from mailbatch.domain.message import Message
    from mailbatch.domain.outcome import Outcome
    from mailbatch.infrastructure.smtp.relay import SmtpRelay

logger = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds to wait for a thread that was told to end: more than it needs, unless the name server hangs."""


@dataclass(frozen=True)
class SmtpTransport:
    """A ``Transport`` to ``relay``: plain SMTP, one mail at a time on each of up to ``connections`` connections.

    ``byte_budget``: bytes of mails in flight beyond which no further one is taken (a single one always is).
    ``mails_per_connection``: after so many a connection is closed and opened anew; 0 for no limit.
    """

    relay: SmtpRelay
    connections: int = 4
    byte_budget: int = 4 * 2**20
    mails_per_connection: int = 0

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
        self._permit = permit
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._wires: list[Wire] = []
        self._free: list[Wire] = []
        self._busy: dict[Wire, int] = {}
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
        while self._busy:
            yield from self._handle(self._events.get())
        if failure is not None:
            raise failure

    def close(self) -> None:
        for wire in self._wires:
            if wire in self._busy:
                wire.abort()
            wire.dismiss()
        for wire in self._wires:
            if not wire.join(_PATIENCE):
                logger.warning("%s: a connection's thread does not end; left behind", self._transport.relay.name)

    def _has_room(self) -> bool:
        """Whether the next mail could be on the wire at once.

        Until the relay let us in once, one connection has to do: a refused password is not tried on all of them.
        """
        if self._busy and self._bytes >= self._transport.byte_budget:
            return False
        limit = self._transport.connections if self._reached else 1
        return bool(self._free) or len(self._wires) < limit

    def _hand_over(self, message: Message) -> None:
        # The one used last: it is the least likely to have been closed for its idleness.
        wire = self._free.pop() if self._free else self._new_wire()
        self._busy[wire] = len(message.data)
        self._bytes += len(message.data)
        wire.hand_over(message)

    def _new_wire(self) -> Wire:
        transport = self._transport
        wire = Wire(transport.relay, self._permit, self._events, transport.mails_per_connection)
        self._wires.append(wire)
        return wire

    def _handle(self, event: Event) -> Iterator[Outcome]:
        match event:
            case Opened():
                self._reached = True
            case Ready(wire):
                self._free.append(wire)
            case Done(wire, _, outcome, ready):
                self._bytes -= self._busy.pop(wire)
                if ready:
                    self._free.append(wire)
                yield outcome
            case Crashed(error):
                raise error
