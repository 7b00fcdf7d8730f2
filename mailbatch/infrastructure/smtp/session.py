"""An open connection and the dialogue over it: what goes out when, what has come in, and what is late."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.errors import PhaseTimeout, RelayError

if TYPE_CHECKING:
    from mailbatch.domain.message import Message
    from mailbatch.infrastructure.smtp.connection import Connection
    from mailbatch.infrastructure.smtp.dialogue.base import Dialogue
    from mailbatch.infrastructure.smtp.pooled_connection import PooledConnection

_SLOW = 2.0
"""Seconds of a phase after which a relay counts as slow."""
_LAST_WORDS = 5.0
"""Seconds for a relay that is about to hang up."""


class Session:
    """Never waits: the owner polls ``fd``, calls ``hear`` when there is something, ``push`` after ``dialogue.begin``.

    ``since`` is when the phase began that goes on, or the last one ended.
    """

    def __init__(self, wire: PooledConnection, connection: Connection, dialogue: Dialogue) -> None:
        self.wire = wire
        self.connection = connection
        self.dialogue = dialogue
        self.fd = connection.begin_dialogue()
        self.since = time.monotonic()
        self.most_mails = wire.most_mails
        """How many mails its connection may carry, 0 for no limit."""
        self.is_writing = False
        """Whether its owner also polls for room to write."""
        self._size = connection.record
        self._is_encrypted = connection.tls_version is not None
        self._progress = dialogue.progress
        # A write through TLS that did not go has to be tried again with the same bytes.
        self._record: int | None = None

    @property
    def is_worn(self) -> bool:
        """Whether its connection has carried as many mails as it may."""
        return 0 < self.most_mails <= self.dialogue.begun

    @property
    def is_slow(self) -> bool:
        """Whether the phase that goes on has lasted for longer than most."""
        return not self.dialogue.idle and time.monotonic() - self.since > _SLOW

    def hear(self) -> None:
        """Take in what the relay has said."""
        connection, dialogue = self.connection, self.dialogue
        while data := connection.read_now():
            dialogue.said(data)
            # TLS may hold bytes that the poll of its socket does not show.
            if not (self._is_encrypted and connection.has_unread):
                break
        self._note()

    def push(self, *, has_heard: bool = False) -> list[Message]:
        """Write what is queued, as far as it goes; answer the mails that are not to wait for it in the queue.

        ``has_heard``: the owner has just called ``hear``, and has done nothing since that took time.
        """
        dialogue = self.dialogue
        while dialogue.out.pending:
            # What is here already cannot be the answer to what is about to be written.
            if not has_heard:
                self.hear()
            has_heard = False
            chunk = dialogue.out.chunk(self._record or self._size)
            try:
                sent = self.connection.write_now(chunk)
            except RelayError:
                self._hear_out()
                raise
            self._record = None
            if sent:
                dialogue.handed(sent)
                self._note()
            if sent < len(chunk):
                if not self._is_encrypted:
                    return dialogue.take_back()
                self._record = len(chunk) if not sent else None
                break
        return []

    def _hear_out(self) -> None:
        """Take in what came before the connection broke: answers that count, and perhaps why it broke."""
        while data := self.connection.read_now():
            self.dialogue.said(data)

    def excuse(self, seconds: float) -> None:
        """Nobody wrote for so long, through no fault of the relay."""
        if self.dialogue.out.pending:
            self.since += seconds

    def judge(self, now: float) -> float:
        """Answer when the phase that goes on has lasted too long; it is begun anew only by progress, not by bytes.

        Raises:
            Late: it has.
        """
        phase = self.dialogue.phase()
        if phase is None:
            return math.inf
        relay = self.connection.relay
        allowed = relay.data_timeout if phase.data else relay.timeout
        if self.dialogue.is_ending:
            allowed = min(allowed, _LAST_WORDS)
        if now >= self.since + allowed:
            raise PhaseTimeout(f"{phase.doing} took longer than {allowed:g} s")
        return self.since + allowed

    def _note(self) -> None:
        if self.dialogue.progress != self._progress:
            self._progress, self.since = self.dialogue.progress, time.monotonic()
