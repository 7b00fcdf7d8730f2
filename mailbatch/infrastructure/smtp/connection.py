"""One connection to a relay, from the attempt to open it until it is closed."""

from __future__ import annotations

import logging
import math
import ssl
import time
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.connect_attempt import ConnectAttempt
from mailbatch.infrastructure.smtp.connection_state import NEXT, POLITE, CloseReason, State
from mailbatch.infrastructure.smtp.dialogue import DIALOGUES
from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode
from mailbatch.infrastructure.smtp.errors import BodyUnreadable, HungUp, PhaseTimeout, RelayError, system_words
from mailbatch.infrastructure.smtp.handshake import has_unread

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from mailbatch.domain.message import Message
    from mailbatch.infrastructure.smtp.connect_attempt import Waker
    from mailbatch.infrastructure.smtp.dialogue.base import Dialogue
    from mailbatch.infrastructure.smtp.place import Place
    from mailbatch.infrastructure.smtp.transport_config import TransportConfig

logger = logging.getLogger(__name__)

_CHUNK = 64 * 1024
"""Bytes of one read or write."""
_TLS_RECORD = 16 * 1024
"""Bytes of one write through TLS: at most one record, because TLS sends a record as a whole or not at all."""
_SLOW = 2.0
"""A relay counts as slow once a phase lasts longer than this, in seconds."""
_LAST_REPLIES = 5.0
"""Seconds within which a relay that said 421 must send its last replies, or hang up."""
_QUIT_TIMEOUT = 1.0
"""Seconds to wait for the reply to QUIT."""
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection:
    """A connection that a thread of its own opens. Once it is OPEN, no method waits.

    The owner polls ``fd``, calls ``receive`` when there is something to read, and ``send`` after ``dialogue.begin``.
    ``dialogue`` and ``fd`` do not exist before OPEN, and ``max_mails`` is 0 before.
    """

    dialogue: Dialogue
    fd: int
    _sock: socket.socket

    def __init__(
        self, config: TransportConfig, place: Place[Connection], waker: Waker, *, waits_for_intent: bool
    ) -> None:
        self.state = State.CONNECTING
        self.since = time.monotonic()
        """When the current phase began, or, between two phases, when the last one ended; on the monotonic clock."""
        self.is_writing = False
        """Whether its owner also polls until the socket can take more bytes."""
        self.max_mails = 0
        """How many mails it may carry, 0 for no limit."""
        self.closes_at = math.inf
        """When the owner closes it even if the relay has not answered QUIT; on the monotonic clock."""
        self.place = place
        self.is_retired = False
        """Whether it begins no further mail, because fewer connections are used."""
        self._config = config
        self._waits_for_intent = waits_for_intent
        self._attempt = ConnectAttempt(config, waker, tries_chunk=not waits_for_intent).start()

    def _enter(self, state: State) -> None:
        if state not in NEXT[self.state]:
            raise RuntimeError(f"a connection that is {self.state.value} cannot become {state.value}")
        self.state = state

    # --- connecting ----------------------------------------------------------------------------------------------

    @property
    def has_connected(self) -> bool:
        """Whether the attempt to connect has ended, so that ``opened`` may be called."""
        return self._attempt.done

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread that opens it; return whether it ended."""
        return self._attempt.join(seconds)

    def opened(self) -> None:
        """Become OPEN after the attempt to connect, or CLOSED if ``close`` was called meanwhile.

        Raises:
            RelayError: the attempt failed, and ``close`` was not called. The connection is CLOSED.
        """
        self._attempt.join(1.0)  # the attempt is done, so its thread ends in a moment
        error, was_wanted = self._attempt.error, self.state is State.CONNECTING
        try:
            if error is not None:
                raise error
            if was_wanted:
                self._begin()
        except RelayError:
            if was_wanted:
                raise
        finally:
            if self.state is not State.OPEN:
                self._drop()

    def _begin(self) -> None:
        handshake = self._attempt.handshake
        tls_version = handshake.tls_version
        self._sock = handshake.begin_dialogue()
        self.dialogue = self._new_dialogue(handshake.esmtp_features)
        self.fd = self._sock.fileno()
        self.since = time.monotonic()
        self.limit_mails()
        self._is_encrypted = tls_version is not None
        self._size = _TLS_RECORD if self._is_encrypted else _CHUNK
        self._progress = self.dialogue.progress
        # How many bytes a write through TLS tried in vain: OpenSSL wants the same bytes again at the next try.
        self._record: int | None = None
        self._enter(State.OPEN)
        name, mode = self._config.relay.name, self.dialogue.mode.name
        logger.debug("%s: connected (%s, %s)", name, tls_version or "in clear", mode)

    def _new_dialogue(self, features: Mapping[str, str]) -> Dialogue:
        config = self._config
        mode = config.capabilities.choose(features)
        if self._waits_for_intent:
            # When the intent is committed between a body and its end, BDAT saves no round trip.
            mode = min(mode, DialogueMode.PIPELINING)
        return DIALOGUES[mode](
            config.relay.name,
            features,
            config.window,
            waits_for_intent=self._waits_for_intent,
            may_send_ahead=config.capabilities.may_send_ahead,
        )

    def limit_mails(self) -> None:
        """Set ``max_mails`` by what is known now. A connection that was retired stays retired."""
        if not self.is_retired:
            self.max_mails = min(filter(None, (self._config.max_mails, self.dialogue.max_mails)), default=0)

    def retire(self) -> None:
        """Begin no further mail. There must be mails in flight."""
        self.is_retired, self.max_mails = True, max(1, self.dialogue.mails_begun)

    # --- open ----------------------------------------------------------------------------------------------------

    @property
    def has_carried_enough(self) -> bool:
        """Whether it has carried as many mails as it may."""
        return 0 < self.max_mails <= self.dialogue.mails_begun

    @property
    def is_slow(self) -> bool:
        """Whether mails are in flight, and the current phase has lasted for more than ``_SLOW`` seconds."""
        return not self.dialogue.idle and time.monotonic() - self.since > _SLOW

    def receive(self) -> None:
        """Read the relay's replies and pass them to the dialogue.

        Raises:
            RelayError: the connection can no longer be used.
        """
        dialogue = self.dialogue
        while data := self._read():
            dialogue.receive_data(data)
            # OpenSSL may hold decrypted bytes; a poll of the socket does not report them.
            if not (self._is_encrypted and has_unread(self._sock)):
                break
        self._note_progress()

    def send(self, *, has_received: bool = False) -> list[Message]:
        """Write as many of the queued bytes as the socket takes.

        Return the mails of which no byte was written and which the dialogue no longer holds: another connection may
        send them. ``has_received``: the owner has just called ``receive``, so this need not read before it writes.

        Raises:
            RelayError: the connection can no longer be used.
        """
        dialogue = self.dialogue
        while dialogue.out.pending:
            # Read first: bytes that are here before a write cannot be the reply to it.
            if not has_received:
                self.receive()
            has_received = False
            try:
                chunk = dialogue.out.chunk(self._record or self._size)
            except BodyUnreadable as error:
                return dialogue.body_unreadable(error)
            sent = self._write(chunk)
            self._record = None
            if sent:
                dialogue.bytes_sent(sent)
                self._note_progress()
            if sent < len(chunk):
                if not self._is_encrypted:
                    return dialogue.take_back()
                self._record = len(chunk) if not sent else None
                break
        return []

    def excuse(self, seconds: float) -> None:
        """Prolong the current phase by ``seconds`` if bytes wait to be written: the lane was busy, not the relay."""
        if self.dialogue.out.pending:
            self.since += seconds

    def deadline(self, now: float) -> float:
        """Return when the current phase times out, on the monotonic clock; infinity if the relay owes nothing.

        A phase begins anew when the dialogue makes progress (a whole reply), not when some bytes arrive.

        Raises:
            PhaseTimeout: the current phase has timed out.
        """
        phase = self.dialogue.phase()
        if phase is None:
            return math.inf
        relay = self._config.relay
        allowed = relay.data_timeout if phase.data else relay.timeout
        if self.dialogue.is_ending:
            allowed = min(allowed, _LAST_REPLIES)
        if now >= self.since + allowed:
            raise PhaseTimeout(f"{phase.doing} took longer than {allowed:g} s")
        return self.since + allowed

    def _note_progress(self) -> None:
        if self.dialogue.progress != self._progress:
            self._progress, self.since = self.dialogue.progress, time.monotonic()

    def _read(self) -> bytes:
        """Return the bytes that have arrived; empty if there are none yet."""
        try:
            data = self._sock.recv(_CHUNK)
        except _NOT_NOW:
            return b""
        except OSError as error:
            raise HungUp(f"the connection broke: {system_words(error)}") from error
        if not data:
            raise HungUp("the relay closed the connection")
        return data

    def _write(self, chunk: bytes | memoryview) -> int:
        """Write ``chunk`` to the socket; return how many bytes it took."""
        try:
            return self._sock.send(chunk)
        except _NOT_NOW:
            return 0
        except OSError as error:
            # Read what arrived before the connection broke: it may be replies to mails, or the reason.
            while data := self._read():
                self.dialogue.receive_data(data)
            raise HungUp(f"the connection broke: {system_words(error)}") from error

    # --- how it ends ---------------------------------------------------------------------------------------------

    def close(self, reason: CloseReason) -> None:
        """Close the connection. This does not decide the mails in flight: the owner calls ``dialogue.connection_lost``.

        While its thread still connects, the attempt is aborted, and the connection is CLOSING; call ``opened`` or
        ``close`` again when the thread has ended. If it is OPEN and idle and ``reason`` is in ``POLITE``, it sends
        QUIT (RFC 5321 §4.1.1.10) and is CLOSING; call ``close`` again when the relay has answered, or at
        ``closes_at``. In every other case it is CLOSED at once.
        """
        name = self._config.relay.name
        logger.debug("%s: a connection that is %s is closed: %s", name, self.state.value, reason)
        if not self._attempt.done:
            self._attempt.abort()
            if self.state is State.CONNECTING:
                self._enter(State.CLOSING)
        elif self.state is State.OPEN and self.dialogue.idle and reason in POLITE and self._says_quit():
            self._enter(State.CLOSING)
            self.closes_at = time.monotonic() + _QUIT_TIMEOUT
        else:
            self._drop()

    def _says_quit(self) -> bool:
        try:
            return self._sock.send(b"QUIT\r\n") > 0
        except OSError:
            return False

    def _drop(self) -> None:
        """Become CLOSED: close the socket, and give the slot back."""
        if self.state is State.CLOSED:
            return
        self._enter(State.CLOSED)
        if self._attempt.error is None:  # if the attempt failed, its thread has done both
            self._attempt.handshake.close()
            if self._config.slots is not None:
                self._config.slots.give_back()
