"""The connections to one relay: decides which of them carries the next mail, and acts when one opens, breaks or idles.

It never waits. The loop calls ``ready`` for a descriptor, ``take_over`` when a connection has been opened, and ``tick``
when something is due. Above 300 lines because a mail's way over a connection, from its choice to its loss, is one story
over the same state.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections import Counter
from typing import TYPE_CHECKING

from mailbatch.domain.outcome import ContentFault, NotSent, RelayFault
from mailbatch.domain.reply_kinds import Concern, kind_of
from mailbatch.infrastructure.smtp.climb import LOOK_EVERY
from mailbatch.infrastructure.smtp.closing_connections import ClosingConnections
from mailbatch.infrastructure.smtp.connection import Connection
from mailbatch.infrastructure.smtp.connection_state import CloseReason, State
from mailbatch.infrastructure.smtp.early_refusals import EarlyRefusals
from mailbatch.infrastructure.smtp.errors import BodyUnreadable, NoSlot, ProtocolViolation, RelayError, masked
from mailbatch.infrastructure.smtp.place import CONNECTIONS, Places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome
    from mailbatch.domain.reply_kinds import ReplyKind
    from mailbatch.infrastructure.smtp.dialogue.base import Dialogue
    from mailbatch.infrastructure.smtp.mail_queue import MailQueue
    from mailbatch.infrastructure.smtp.poller import Poller
    from mailbatch.infrastructure.smtp.transport_config import TransportConfig

logger = logging.getLogger(__name__)

_THREAD_END = 10.0
"""Seconds to wait for a thread that was told to end: more than it needs, unless the name server hangs."""
_ENOUGH_QUEUED = 64 * 1024
"""While more bytes than this wait for the kernel, no mail is begun: its permit would be old when it is sent."""
_ASK_WHILE_RESTING = 0.1
"""Seconds after which the permit is asked again while no connection may be opened."""
_ASK_WHILE_CONNECTING = 0.5
_MOST_RETURNS = 3
"""How often a mail that met a limit on connections, or on mails on one, is sent again over another connection."""


class ConnectionPool:
    """The connections to the relay of ``config``, which carry ``mails``."""

    def __init__(
        self,
        config: TransportConfig,
        mails: MailQueue,
        poller: Poller,
        permit: Callable[[], bool],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None,
    ) -> None:
        self._config = config
        self._mails = mails
        self._poller = poller
        self._permit = permit
        self._commit_intent = commit_intent
        self._climb = config.climb
        self._places: Places[Connection] = Places(self._climb.number if self._climb else config.connections)
        self._open: dict[int, Connection] = {}
        self._closing = ClosingConnections(poller.poll)
        self._early = EarlyRefusals(config)
        self._returns: Counter[Claim] = Counter()
        self._has_logged_limit = False
        self._answered = 0
        """Mails answered on connections that were closed."""

    def begin(self) -> None:
        """Recall what is known of the relay."""
        capabilities = self._config.capabilities
        capabilities.recall()
        if self._climb is not None:
            self._climb.recall(capabilities)
            self._places.allow(self._climb.number)

    # --- which mail, on which connection -------------------------------------------------------------------------

    def wanted(self) -> int:
        """Return how many mails should be ready: those that can be sent at once, or else those for new connections.

        A BDAT connection that has answered a mail gets several mails in a row, so that one write sends them: a write
        costs more than all else. A PIPELINING connection needs its next mail when the relay asks for a body.
        """
        if (connection := self._choose()) is not None:
            return min(connection.dialogue.room, 2 * connection.dialogue.least_room)
        ahead = sum(one.dialogue.sends_ahead for one in self._open.values())
        return ahead + len(self._places.connecting()) + len(self._places.free())

    def is_heavy(self) -> bool:
        """Whether the unsettled mails have reached a limit in bytes.

        Mails in memory that are in flight on a slow connection do not count, so that the other connections go on.
        """
        size, budget = self._mails.bytes, self._config.byte_budget
        if self._mails.bytes_elsewhere >= self._config.wire_budget:
            return True
        if size < budget:
            return False
        return size - sum(one.dialogue.bytes_in_flight for one in self._open.values() if one.is_slow) >= budget

    def begin_ready(self) -> None:
        """Begin the ready mails where there is room. Open a connection if a mail finds none, or would share one."""
        while self._mails.ready:
            connection = self._choose()
            if connection is None:
                if not self._connect():
                    return
            elif self._has_idled(connection):
                self._close(connection, CloseReason.IDLE_TOO_LONG)
            else:
                if connection.dialogue.in_flight:
                    self._connect()
                self._begin_mails(connection)
                self._send(connection)

    def _choose(self) -> Connection | None:
        """Return the connection for the next mail: the one with the fewest mails in flight.

        Among idle connections it is the one used last, because the relay is least likely to have closed that one.
        """
        best, least, since = None, math.inf, 0.0
        for connection in self._open.values():
            dialogue = connection.dialogue
            # The poll reports when the kernel takes the pending bytes; trying again before would be a busy loop.
            if dialogue.room < dialogue.least_room or dialogue.out.pending or connection.has_carried_enough:
                continue
            load = dialogue.in_flight
            if load < least or (load == least == 0 and connection.since > since):
                best, least, since = connection, load, connection.since
        return best

    def _has_idled(self, connection: Connection) -> bool:
        limit, dialogue = self._config.idle_limit, connection.dialogue
        return dialogue.idle and dialogue.mails_begun > 0 and 0 < limit < time.monotonic() - connection.since

    def _begin_mails(self, connection: Connection) -> None:
        dialogue, ready = connection.dialogue, self._mails.ready
        while (
            ready and dialogue.room > 0 and dialogue.out.pending < _ENOUGH_QUEUED and not connection.has_carried_enough
        ):
            # The permit is asked just before the write.
            if self._permit():
                dialogue.begin(ready.popleft())
            else:
                self._mails.refuse_next()

    # --- connections that open -----------------------------------------------------------------------------------

    def _connect(self) -> bool:
        """Open a connection for each ready mail, up to the limit. Return True if the permit refused a mail instead."""
        if not (places := self._places.free()):
            return False
        for place in places[: max(0, len(self._mails.ready) - len(self._places.connecting()))]:
            if not self._permit():
                self._mails.refuse_next()
                return True
            waits_for_intent = self._commit_intent is not None
            place.connection = Connection(self._config, place, self._poller.waker(), waits_for_intent=waits_for_intent)
            self._poller.tick_by(time.monotonic() + _ASK_WHILE_CONNECTING)
        return False

    def take_over(self) -> None:
        """Use the connections that have been opened."""
        for connection in self._places.connecting():
            if not connection.has_connected:
                continue
            try:
                connection.opened()
            except RelayError as error:
                connection.place.connection = None
                connection.place.rest_unopened(error)
                self._poller.tick_by(connection.place.rests_until)
                if not isinstance(error, NoSlot):
                    self._note_trouble(kind_of(error.reply) if error.reply is not None else None)
                self._blame(error)
            else:
                self._use(connection)

    def _use(self, connection: Connection) -> None:
        if connection.state is State.CLOSED:  # ``close`` was called meanwhile
            connection.place.connection = None
            return
        self._places.has_connected = True
        self._config.capabilities.note()
        if self._early:
            connection.dialogue.allow_ahead(allowed=False)
        self._open[connection.fd] = connection
        self._poller.poll.register(connection.fd, select.POLLIN)
        if self._climb is not None:
            self._climb.opened(connection.dialogue.mode, self._config.window)
            self._fit(self._climb.number)

    def _blame(self, error: RelayError) -> None:
        """Make the fault the outcome of one mail, unless another connection will carry the mails."""
        if isinstance(error, NoSlot):
            return
        if self._open or not self._mails.ready:
            # A further connection is tried again and again while others work, so this is a warning only once.
            # Where the number of connections is found, it is no fault.
            known = logging.WARNING if self._climb is None else logging.INFO
            level = logging.DEBUG if self._has_logged_limit else known
            self._has_logged_limit = True
            logger.log(level, "%s: no further connection: %s", self._config.relay.name, masked(str(error)))
            return
        message = self._mails.ready.popleft()
        self._settle_fault(message, self._fault(message, error, in_dialogue=False))

    # --- an open connection --------------------------------------------------------------------------------------

    def ready(self, fd: int) -> None:
        """Read the replies at ``fd``, and write what can be sent after them."""
        if (connection := self._open.get(fd)) is None:
            self._closing.readable(fd)
            return
        try:
            connection.receive()
        except RelayError as error:
            self._lose(connection, error)
            return
        if self._mails.ready and connection.dialogue.room >= connection.dialogue.least_room:
            self._begin_mails(connection)
        self._send(connection, has_received=True)

    def _send(self, connection: Connection, *, has_received: bool = False) -> None:
        try:
            if rest := connection.send(has_received=has_received):
                self._mails.put_back(rest)
        except RelayError as error:
            self._lose(connection, error)
        else:
            self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Take the outcomes, and poll for room to write only while bytes wait."""
        dialogue = connection.dialogue
        if done := dialogue.collect_outcomes():
            if dialogue.mails_answered:
                connection.place.works()
                self._config.capabilities.note_mode_works(dialogue.mode, ahead=dialogue.ahead_accepted)
            for message, outcome in done:
                self._mails.settle(message, outcome)
                if self._early:
                    self._compare(message, outcome)
        if dialogue.refused_early:
            self._send_alone(dialogue)
        if dialogue.idle and dialogue.sequence_error is not None:
            self._lose(connection, ProtocolViolation(f"commands came out of sequence: {dialogue.sequence_error}"))
        elif dialogue.idle and connection.has_carried_enough:
            self._close(connection, CloseReason.CARRIED_ENOUGH)
        elif (writing := dialogue.out.pending > 0) != connection.is_writing:
            connection.is_writing = writing
            self._poller.poll.modify(connection.fd, select.POLLIN | select.POLLOUT if writing else select.POLLIN)

    def _send_alone(self, dialogue: Dialogue) -> None:
        """Send mails again that seem to have been refused for coming ahead; until their answers send nothing ahead."""
        early, dialogue.refused_early = dialogue.refused_early, []
        self._early.add(early)
        self._mails.put_back([message for message, _ in early])
        for one in self._open.values():
            one.dialogue.allow_ahead(allowed=False)

    def _compare(self, message: Message, outcome: Outcome) -> None:
        self._early.compare(message, outcome)
        if not self._early:
            for one in self._open.values():
                one.dialogue.allow_ahead(allowed=self._config.capabilities.may_send_ahead)

    def ask_for_intent(self) -> bool:
        """Call ``commit_intent`` with the mails whose bodies were sent except for their ends.

        The ends of the mails that it returns are sent. For the others the connection is closed, so that they are not
        sent. Return whether there were any mails to ask for.
        """
        if self._commit_intent is None:
            return False
        held = {
            message.claim: (connection, message)
            for connection in self._open.values()
            if (message := connection.dialogue.awaiting_intent) is not None
        }
        if not held:
            return False
        allowed = self._commit_intent(list(held))
        for claim, (connection, message) in held.items():
            if claim in allowed:
                connection.dialogue.send_end()
                self._send(connection)
            else:
                self._close(connection, CloseReason.NOT_PERMITTED)
                self._mails.settle(message, NotSent(claim))
        return True

    # --- connections that end ------------------------------------------------------------------------------------

    def _close(self, connection: Connection, reason: CloseReason) -> None:
        """Close an open connection, without waiting for the reply to QUIT, and free its place."""
        self._poller.poll.unregister(connection.fd)
        del self._open[connection.fd]
        self._answered += connection.dialogue.mails_answered
        connection.place.connection = None
        connection.close(reason)
        if connection.state is State.CLOSING:
            self._closing.add(connection)
            self._poller.tick_by(connection.closes_at)

    def _lose(self, connection: Connection, error: RelayError) -> None:
        """Close a connection that broke, give its mails their outcomes or send them again, and learn from it."""
        dialogue, place = connection.dialogue, connection.place
        self._close(connection, CloseReason.BROKEN)
        untouched = dialogue.connection_lost(error)
        error = dialogue.closing or error
        if not isinstance(error, BodyUnreadable):
            self._learn_from_loss(dialogue, error)
            self._note_end(connection)
            if self._touches_a_mail(dialogue) and untouched:
                dialogue.blame(untouched.pop(0), error)
        done = dialogue.collect_outcomes()
        place.rest_after_loss(dialogue, [outcome for _, outcome in done])
        self._poller.tick_by(place.rests_until)
        if (message := self._limited_again(dialogue)) in untouched:
            untouched.remove(message)
            done.append((message, self._fault(message, error, in_dialogue=True)))
        self._mails.put_back(untouched)
        if dialogue.refused_early:
            self._send_alone(dialogue)
        for message, outcome in done:
            if isinstance(outcome, RelayFault | ContentFault):
                self._settle_fault(message, outcome)
            else:
                self._mails.settle(message, outcome)

    def _learn_from_loss(self, dialogue: Dialogue, error: RelayError) -> None:
        capabilities, name = self._config.capabilities, self._config.relay.name
        capabilities.learn_from_loss(dialogue, error, name)
        capabilities.note()
        for other in self._open.values():
            other.limit_mails()
        logger.debug("%s: a connection was lost: %s", name, masked(str(error)))

    def _touches_a_mail(self, dialogue: Dialogue) -> bool:
        """Whether the loss must become the outcome of one mail, although the relay can have taken none.

        Without an outcome a relay that accepts connections and then closes each of them would be tried for ever.
        """
        if dialogue.sequence_error is not None or dialogue.mails_answered:
            return False
        return not (self._open and dialogue.limit is not None)

    def _limited_again(self, dialogue: Dialogue) -> Message | None:
        """Return the mail that met a limit on more than ``_MOST_RETURNS`` connections: it may be the cause."""
        message = dialogue.limited_mail
        if message is None or not dialogue.mails_answered:
            return None
        self._returns[message.claim] += 1
        return message if self._returns[message.claim] > _MOST_RETURNS else None

    def _fault(self, message: Message, error: RelayError, *, in_dialogue: bool) -> RelayFault:
        name = self._config.relay.name
        return RelayFault(message.claim, name, str(error), error.hopeless, in_dialogue=in_dialogue, reply=error.reply)

    def _settle_fault(self, message: Message, fault: RelayFault | ContentFault) -> None:
        self._mails.settle(message, fault)
        reason, reservation = masked(fault.reason), fault.claim.reservation_id
        logger.warning("%s: %s (reservation %s)", self._config.relay.name, reason, reservation)

    def close(self) -> None:
        """Close all connections: idle ones by QUIT, the others at once."""
        connecting = self._places.connecting()
        for connection in connecting:
            connection.close(CloseReason.NO_MORE_MAILS)
        for connection in list(self._open.values()):
            self._close(connection, CloseReason.NO_MORE_MAILS)
        self._closing.wait()
        for connection in connecting:
            if connection.join(_THREAD_END):
                connection.close(CloseReason.NO_MORE_MAILS)
            else:
                logger.warning("%s: a connection's thread does not end; left behind", self._config.relay.name)
        if self._climb is not None:
            self._climb.note(self._config.capabilities)
        self._config.capabilities.note()

    # --- how many there are --------------------------------------------------------------------------------------

    def measure(self, now: float, waited: float) -> None:
        """Try more connections, or end a trial. ``waited``: the seconds in which the loop had to wait, in all."""
        if (climb := self._climb) is None:
            return
        answered = self._answered + sum(one.dialogue.mails_answered for one in self._open.values())
        if climb.look(now, is_open=len(self._open), answered=answered, waited=waited):
            self._fit(climb.number)
        self._poller.tick_by(now + LOOK_EVERY)

    def restart_measurement(self) -> None:
        """Begin it anew, because the lane paused."""
        if self._climb is not None:
            self._climb.restart()

    def _note_end(self, connection: Connection) -> None:
        """Learn from the end of a connection for how long one may be idle, or how many there may be."""
        dialogue = connection.dialogue
        if dialogue.idle_at_loss:
            if dialogue.mails_answered:
                self._config.capabilities.note_idle_end(time.monotonic() - connection.since)
        elif dialogue.mode_failure is None and dialogue.sequence_error is None:
            self._note_trouble(dialogue.limit)

    def _note_trouble(self, kind: ReplyKind | None) -> None:
        """Use fewer connections after one was refused or broke, if others work: if none does, the relay is away.

        ``kind``: of the relay's reply, if it said why.
        """
        if (climb := self._climb) is None or not self._open:
            return
        working, now = len(self._open) + len(self._places.connecting()), time.monotonic()
        if kind is not None and kind.name == CONNECTIONS:
            has_changed = climb.refused(working, now)
        elif kind is not None and kind.concern is Concern.CONNECTION:
            return  # it speaks of that connection: it carried enough, was idle for too long, or had too many errors
        else:
            has_changed = climb.lost(now)
        if has_changed:
            self._fit(climb.number)

    def _fit(self, number: int) -> None:
        """Use ``number`` connections from now on. Of those above it close the idle ones, and retire the others."""
        self._places.allow(number)
        used = [one for one in self._open.values() if not one.is_retired]
        for connection in used[number:]:
            if connection.dialogue.idle:
                self._close(connection, CloseReason.NOT_NEEDED)
            else:
                connection.retire()

    # --- time ----------------------------------------------------------------------------------------------------

    def excuse(self, seconds: float) -> None:
        """Do not count these seconds against the relay, because we wrote nothing meanwhile."""
        for connection in self._open.values():
            connection.excuse(seconds)

    def tick(self, now: float) -> None:
        """Act on what is due: late relays, ends of rests, overdue replies to QUIT. Without a permit, stop waiting."""
        for connection in list(self._open.values()):
            try:
                self._poller.tick_by(connection.deadline(now))
            except RelayError as error:
                self._lose(connection, error)
        self._poller.tick_by(self._closing.close_overdue(now))
        resting = self._places.resting(now)
        connecting = self._places.connecting()
        slow = [one for one in connecting if one.since + _ASK_WHILE_CONNECTING <= now]
        if resting:
            self._poller.tick_by(min(now + _ASK_WHILE_RESTING, *resting))
        if connecting:
            self._poller.tick_by(now + _ASK_WHILE_CONNECTING)
        if (resting or slow) and not self._permit():
            self._places.end_rests()
            for connection in slow:
                connection.close(CloseReason.NOT_PERMITTED)
