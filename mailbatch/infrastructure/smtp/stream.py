"""Carries one stream of mails over several connections, in the caller's thread: an event loop, seen as a generator.

While the caller does something else (claims, composes, settles), what the kernel holds keeps the wires busy. Whatever
has come in meanwhile is read before anything is judged to be late.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from mailbatch.application.ports.sending import Nap
from mailbatch.domain.outcome import NotSent, Outcome, RelayFault, Replied, Reply
from mailbatch.infrastructure.smtp.closing_connections import ClosingConnections
from mailbatch.infrastructure.smtp.connect_attempt import Waker
from mailbatch.infrastructure.smtp.errors import NoSlot, RelayError
from mailbatch.infrastructure.smtp.pooled_connection import PooledConnection, hang_up, masked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mailbatch.domain.message import Claim, Message
    from mailbatch.infrastructure.smtp.session import Session
    from mailbatch.infrastructure.smtp.transport_config import TransportConfig

logger = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds to wait for a thread that was told to end: more than it needs, unless the name server hangs."""
_ENOUGH_QUEUED = 64 * 1024
"""Bytes waiting for the kernel, beyond which no further mail is begun: its permit would be old when it goes."""
_ASK_AGAIN = 0.1
"""Seconds after which a resting wire asks whether it is still to go on."""
_ASK_WHILE_OPENING = 0.5
_MOST_RETURNS = 3
_AWAY = 0.05
"""Seconds that the caller may do something else before a relay is excused for them."""


class Stream:
    """The mails of one ``send``: those that are ready, those in flight, and what came of the others."""

    def __init__(
        self,
        terms: TransportConfig,
        permit: Callable[[], bool],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None,
    ) -> None:
        self._terms = terms
        self._permit = permit
        self._last_look = commit_intent
        self._wires = [PooledConnection(terms, held_back=commit_intent is not None) for _ in range(terms.connections)]
        self._poll = select.poll()
        self._by_fd: dict[int, Session] = {}
        self._farewells = ClosingConnections(self._poll, terms)
        self._bell: Waker | None = None
        self._ready: deque[Message] = deque()
        self._outcomes: list[Outcome] = []
        self._pauses_until = 0.0
        self._held = 0
        self._bytes = 0
        self._doubts: dict[Claim, Reply] = {}
        """Mails that are sent again, and what was said to their commands when these came early."""
        self._returns: Counter[Claim] = Counter()
        """How often a mail heard of a limit of connections, and went over another one."""
        self._reached = False
        self._is_cramped = False
        self._attended = self._tick_at = self._breathed = time.monotonic()

    def run(self, messages: Iterable[Message | Nap]) -> Iterator[Outcome | None]:
        """Pull, send, answer; see ``SmtpTransport.send``."""
        self._terms.capabilities.recall()
        source = iter(messages)
        more = True
        failure: Exception | None = None
        while more or self._held or self._outcomes:
            self._place()
            if self._outcomes:
                outcomes, self._outcomes = self._outcomes, []
                yield from outcomes
                self._breathed = time.monotonic()
            elif self._must_breathe():
                yield None
                self._breathed = time.monotonic()
            elif self._look():
                continue  # only when the caller knows all answers: what it has not settled is in doubt as well
            elif not more or (wanted := self._wanted()) <= len(self._ready):
                self._wait()
            else:
                try:
                    self._pull(source, wanted - len(self._ready))
                except StopIteration:
                    more = False
                except Exception as error:  # noqa: BLE001 (raised below, when the outcomes are out)
                    failure, more = error, False
        if failure is not None:
            raise failure

    def close(self) -> None:
        """End everything: dialogues where they stand, idle connections in good manners."""
        openings = [wire.opening for wire in self._wires if wire.opening is not None]
        for opening in openings:
            opening.abort()
        for session in list(self._by_fd.values()):
            self._part(session) if session.dialogue.idle else self._drop(session)
        self._farewells.wait()
        for opening in openings:
            if not opening.join(_PATIENCE):
                logger.warning("%s: a connection's thread does not end; left behind", self._terms.relay.name)
            elif opening.error is None:
                hang_up(opening.connection, self._terms)
        if self._bell is not None:
            self._bell.close()
        self._terms.capabilities.note()

    # --- which mail, on which wire -------------------------------------------------------------------------------

    def _pull(self, source: Iterator[Message | Nap], count: int) -> None:
        """Take up to ``count`` messages, as many as memory allows; fewer if there is to be a pause."""
        for _ in range(count):
            message = next(source)
            if isinstance(message, Nap):
                self._pauses_until = time.monotonic() + message.seconds
                self._tick_by(self._pauses_until)
                return
            self._take(message)
            if self._is_heavy():
                return

    def _take(self, message: Message) -> None:
        self._held += 1
        self._bytes += len(message.data)
        self._ready.append(message)

    def _done(self, message: Message, outcome: Outcome) -> None:
        self._held -= 1
        self._bytes -= len(message.data)
        self._outcomes.append(outcome)

    def _wanted(self) -> int:
        """How many mails are worth having ready: those that could go at once, and those for connections to come.

        A session whose relay is known to understand gets some in a row, so that they go in one write, which costs
        more than all else. A pipelining one has its next mail ready when the relay asks for the last one's body.
        """
        if self._held and self._is_heavy():
            return 0
        if self._pauses_until:
            if time.monotonic() < self._pauses_until:
                return 0
            self._pauses_until = 0.0
        if (session := self._choose()) is not None:
            return min(session.dialogue.room, 2 * session.dialogue.batch)
        ahead = sum(session.dialogue.looks_ahead for session in self._by_fd.values())
        return ahead + sum(wire.opening is not None for wire in self._wires) + len(self._openable())

    def _is_heavy(self) -> bool:
        """Whether the mails in flight are as many bytes as they may be.

        Those that a relay does not get on with count no more: the other connections are to go on meanwhile.
        """
        budget = self._terms.byte_budget
        if self._bytes < budget:
            return False
        return self._bytes - sum(one.dialogue.bytes_in_flight for one in self._by_fd.values() if one.is_slow) >= budget

    def _must_breathe(self) -> bool:
        return 0 < self._terms.breath <= time.monotonic() - self._breathed

    def _choose(self) -> Session | None:
        """The session for the next mail: the one with the least to do.

        Among the idle it is the one used last: it is the least likely to have been closed for its idleness.
        """
        best, least, since = None, math.inf, 0.0
        for session in self._by_fd.values():
            dialogue = session.dialogue
            # What the kernel did not take goes when the poll says that there is room; asking again would be a loop.
            if dialogue.room < dialogue.batch or dialogue.out.pending or session.is_worn:
                continue
            load = dialogue.in_flight
            if load < least or (load == least == 0 and session.since > since):
                best, least, since = session, load, session.since
        return best

    def _openable(self) -> list[PooledConnection]:
        """The wires that may open a connection now.

        Until the relay let us in once, one connection has to do: a refused password is not tried on all of them.
        """
        now = time.monotonic()
        wires = self._wires if self._reached else self._wires[:1]
        return [wire for wire in wires if wire.is_closed and wire.rests_until <= now]

    def _place(self) -> None:
        """Begin what is ready, where there is room; open a connection for what finds none, or has to share."""
        while self._ready:
            session = self._choose()
            if session is None:
                if not self._open():
                    return
            elif self._has_idled(session):
                self._part(session)
            else:
                if session.dialogue.in_flight:
                    self._open()
                self._fill(session)
                self._push(session)

    def _open(self) -> bool:
        """Open a connection for each mail that is ready, as far as may be; answer whether there is less to do now."""
        opening = sum(wire.opening is not None for wire in self._wires)
        for wire in self._openable()[: max(0, len(self._ready) - opening)]:
            if not self._permit():
                self._refuse()
                return True
            if self._bell is None:
                self._bell = Waker()
                self._poll.register(self._bell.ear, select.POLLIN)
            wire.open(self._bell)
            self._tick_by(time.monotonic() + _ASK_WHILE_OPENING)
        return False

    def _refuse(self) -> None:
        message = self._ready.popleft()
        self._done(message, NotSent(message.claim))

    def _has_idled(self, session: Session) -> bool:
        limit, dialogue = self._terms.idle_seconds, session.dialogue
        return dialogue.idle and dialogue.begun > 0 and 0 < limit < time.monotonic() - session.since

    # --- a session -----------------------------------------------------------------------------------------------

    def _fill(self, session: Session) -> None:
        dialogue = session.dialogue
        while self._ready and dialogue.room > 0 and dialogue.out.pending < _ENOUGH_QUEUED and not session.is_worn:
            # The permit is asked just before the write.
            if self._permit():
                dialogue.begin(self._ready.popleft())
            else:
                self._refuse()

    def _push(self, session: Session, *, has_heard: bool = False) -> None:
        try:
            self._ready.extendleft(reversed(session.push(has_heard=has_heard)))
        except RelayError as error:
            self._lose(session, error)
        else:
            self._settle(session)

    def _attend(self, session: Session) -> None:
        """Read, and write what that makes possible."""
        try:
            session.hear()
        except RelayError as error:
            self._lose(session, error)
            return
        if self._ready and session.dialogue.room >= session.dialogue.batch:
            self._fill(session)
        self._push(session, has_heard=True)

    def _settle(self, session: Session) -> None:
        """Take what came out, and see to it that the poll asks the right question."""
        dialogue = session.dialogue
        if done := dialogue.collect():
            if dialogue.finished:
                session.wire.works(session)
            for message, outcome in done:
                self._done(message, outcome)
                if self._doubts:
                    self._compare(message, outcome)
        if dialogue.early:
            self._send_alone(session)
        if dialogue.idle and dialogue.confused is not None:
            self._forget(session)
            self._ready.extendleft(reversed(session.wire.confused(session)))
        elif dialogue.idle and session.is_worn:
            self._part(session)
        elif (writing := dialogue.out.pending > 0) != session.is_writing:
            session.is_writing = writing
            self._poll.modify(session.fd, select.POLLIN | select.POLLOUT if writing else select.POLLIN)

    def _send_alone(self, session: Session) -> None:
        """Send mails again whose commands came too early, as it seems: nothing goes ahead until they are answered."""
        early, session.dialogue.early = session.dialogue.early, []
        self._doubts |= {message.claim: reply for message, reply in early}
        self._ready.extendleft(message for message, _ in reversed(early))
        for one in self._by_fd.values():
            one.dialogue.look_ahead(allowed=False)

    def _compare(self, message: Message, outcome: Outcome) -> None:
        """See what the relay says to a mail now that its commands came in time: the same, if it spoke of the mail."""
        if (early := self._doubts.pop(message.claim, None)) is None:
            return
        capabilities = self._terms.capabilities
        if isinstance(outcome, Replied) and any(v.reply.code != early.code for v in outcome.verdicts.values()):
            capabilities.send_nothing_ahead(self._terms.relay.name, masked(str(early)))
            capabilities.note()
        if not self._doubts:
            for session in self._by_fd.values():
                session.dialogue.look_ahead(allowed=capabilities.looks_ahead)

    def _lose(self, session: Session, error: RelayError) -> None:
        self._forget(session)
        done, untouched = session.wire.lost(session, error, others=bool(self._by_fd))
        if (message := self._limited_again(session)) in untouched:
            untouched.remove(message)
            done.append((message, self._at_fault(message, error)))
        self._ready.extendleft(reversed(untouched))
        for other in self._by_fd.values():
            other.most_mails = other.wire.most_mails
        if session.dialogue.early:
            self._send_alone(session)
        self._terms.capabilities.note()
        for message, outcome in done:
            self._done(message, outcome)
            if isinstance(outcome, RelayFault):
                self._log(outcome)
        self._tick_by(session.wire.rests_until)

    def _limited_again(self, session: Session) -> Message | None:
        """The mail that heard of a limit on connection after connection: it may be what uses them up."""
        message = session.dialogue.limited
        if message is None or not session.dialogue.finished:
            return None
        self._returns[message.claim] += 1
        return message if self._returns[message.claim] > _MOST_RETURNS else None

    def _at_fault(self, message: Message, error: RelayError) -> RelayFault:
        return RelayFault(
            message.claim, self._terms.relay.name, str(error), error.hopeless, in_dialogue=True, reply=error.reply
        )

    def _log(self, fault: RelayFault) -> None:
        reason, reservation = masked(fault.reason), fault.claim.reservation_id
        logger.warning("%s: %s (reservation %s)", self._terms.relay.name, reason, reservation)

    def _drop(self, session: Session) -> None:
        self._forget(session)
        session.wire.drop(session)

    def _part(self, session: Session) -> None:
        """Close an idle connection in good manners, without waiting for it."""
        self._forget(session)
        self._farewells.say(session.wire.part(session), session.fd)
        self._tick_by(time.monotonic())

    def _forget(self, session: Session) -> None:
        self._poll.unregister(session.fd)
        del self._by_fd[session.fd]

    # --- the loop ------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait until something comes, can be written, or is due, and see to it."""
        now = time.monotonic()
        if (away := now - self._attended) > _AWAY:
            for session in self._by_fd.values():
                session.excuse(away)
        for fd, _ in self._poll.poll(max(0.0, self._tick_at - now) * 1000 + 1):
            if (heard := self._by_fd.get(fd)) is not None:
                self._attend(heard)
            elif self._bell is not None and fd == self._bell.ear.fileno():
                self._bell.heard()
                self._take_over()
            else:
                self._farewells.heard(fd)
        self._attended = time.monotonic()
        if self._attended >= self._tick_at:
            self._tick(self._attended)

    def _tick_by(self, at: float) -> None:
        self._tick_at = min(self._tick_at, at)

    def _tick(self, now: float) -> None:
        """See what is due: late relays, the end of a rest, farewells; and whether waiting still makes sense."""
        relay = self._terms.relay
        self._tick_at = now + min(relay.timeout, relay.data_timeout, self._terms.breath or math.inf)
        if self._pauses_until > now:
            self._tick_by(self._pauses_until)
        for session in list(self._by_fd.values()):
            try:
                self._tick_by(session.judge(now))
            except RelayError as error:
                self._lose(session, error)
        self._tick_by(self._farewells.overdue(now))
        resting = [wire.rests_until for wire in self._wires if wire.rests_until > now]
        opening = [wire.opening for wire in self._wires if wire.opening is not None]
        slow = [one for one in opening if one.since + _ASK_WHILE_OPENING <= now]
        if resting:
            self._tick_by(min(now + _ASK_AGAIN, *resting))
        if opening:
            self._tick_by(now + _ASK_WHILE_OPENING)
        if (resting or slow) and not self._permit():
            for wire in self._wires:
                wire.rests_until = 0.0
            for one in slow:
                one.abort()

    def _take_over(self) -> None:
        """Begin with the connections that have been opened."""
        for wire in self._wires:
            if (opening := wire.opening) is None or not opening.done:
                continue
            found = wire.opened(opening)
            if not isinstance(found, RelayError):
                self._reached = True
                self._terms.capabilities.note()
                if self._doubts:
                    found.dialogue.look_ahead(allowed=False)
                self._by_fd[found.fd] = found
                self._poll.register(found.fd, select.POLLIN)
            elif not opening.aborted:
                self._tick_by(wire.rests_until)
                self._blame(found)

    def _blame(self, error: RelayError) -> None:
        """A connection could not be opened: that touches one mail, unless another connection will carry it."""
        if isinstance(error, NoSlot):
            return
        if self._by_fd or not self._ready:
            # Asked for again and again while the others work: said once.
            level = logging.DEBUG if self._is_cramped else logging.WARNING
            self._is_cramped = True
            logger.log(level, "%s: no further connection: %s", self._terms.relay.name, masked(str(error)))
            return
        message = self._ready.popleft()
        fault = RelayFault(message.claim, self._terms.relay.name, str(error), error.hopeless, reply=error.reply)
        self._done(message, fault)
        self._log(fault)

    def _look(self) -> bool:
        """Let the caller look for a last time at mails whose bodies are out but for their ends; False without any."""
        if self._last_look is None:
            return False
        held = {
            message.claim: (session, message)
            for session in self._by_fd.values()
            if (message := session.dialogue.held) is not None
        }
        if not held:
            return False
        allowed = self._last_look(list(held))
        for claim, (session, message) in held.items():
            if claim in allowed:
                session.dialogue.release()
                self._push(session)
            else:
                self._drop(session)
                self._done(message, NotSent(claim))
        return True
