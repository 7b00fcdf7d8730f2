"""Measures how fast the mails of one lane go, and changes the number of its connections by that."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from mailbatch.domain.connection_number import ConnectionNumber
from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities

logger = logging.getLogger(__name__)

_LEAST_SECONDS, _MOST_SECONDS = 1.0, 5.0
"""How long a measurement takes."""
_ENOUGH_MAILS = 8
"""A measurement ends early, after ``_LEAST_SECONDS``, if each connection has had so many answers on average."""
_OPENING_SECONDS = 3.0
"""A measurement begins when all connections are open, or after this time."""
LOOK_EVERY = 0.25
"""Seconds between two calls of ``Climb.look``."""


class Climb:
    """The number of connections of one lane, over all of its passes.

    ``first``: how many it begins with, unless another run has found a number. ``most``: it never has more.
    """

    def __init__(self, first: int, most: int) -> None:
        self._first = first
        self._state = ConnectionNumber(number=first, most=most)
        self._depth = 1
        self._has_recalled = False
        self._opens_since: float | None = None
        self._since: float | None = None
        """When the measurement began; None before all connections are open."""
        self._answered_before = 0
        self._waited_before = 0.0

    @property
    def number(self) -> int:
        """How many connections there may be now."""
        return self._state.number

    @property
    def most(self) -> int:
        """How many there may ever be."""
        return self._state.most

    @property
    def capacity(self) -> int:
        """How many mails can be in flight on that number of connections."""
        return self._state.number * self._depth

    def recall(self, capabilities: RelayCapabilities) -> None:
        """Begin with the number that the last run found, the first time that this is called."""
        if not self._has_recalled and (known := capabilities.connections):
            self._state = replace(self._state, number=min(known, self._state.most))
        self._has_recalled = True

    def opened(self, mode: DialogueMode, window: int) -> None:
        """Note in which mode a connection works: it says how many mails can be in flight on it."""
        self._depth = window if mode is DialogueMode.BDAT else min(window, mode.value + 1)

    def restart(self) -> None:
        """Begin the measurement anew, because the lane sent more slowly than it could."""
        self._opens_since = self._since = None

    def look(self, now: float, *, is_open: int, answered: int, waited: float) -> bool:
        """Return whether the number has changed. ``answered`` mails and ``waited`` seconds only rise from call to call.

        ``is_open``: how many connections are open.
        """
        if self._since is None:
            self._opens_since = self._opens_since or now
            if is_open >= self.number or (is_open and now > self._opens_since + _OPENING_SECONDS):
                self._since, self._answered_before, self._waited_before = now, answered, waited
            return False
        seconds, mails = now - self._since, answered - self._answered_before
        enough = mails >= _ENOUGH_MAILS * is_open or seconds >= _MOST_SECONDS
        if seconds < _LEAST_SECONDS or not enough:
            return False
        rate, idle = mails / seconds, (waited - self._waited_before) / seconds
        return self._become(self._state.measured(rate, idle, now), f"{rate:.0f} mails a second, idle {idle:.0%}")

    def refused(self, working: int, now: float) -> bool:
        """Note that the relay took no further connection; return whether the number has changed."""
        return self._become(self._state.refused(working, now), "the relay takes no further connection")

    def lost(self, now: float) -> bool:
        """Note that a connection was not opened or broke; return whether the number has changed."""
        return self._become(self._state.lost(now), "a connection was lost")

    def note(self, capabilities: RelayCapabilities) -> None:
        """Remember the number for the next run, if it is not the one that is known."""
        if self._state.proven != (capabilities.connections or self._first):
            capabilities.note_connections(self._state.proven)

    def _become(self, state: ConnectionNumber, reason: str) -> bool:
        before, self._state = self._state.number, state
        self.restart()
        if state.number != before:
            logger.debug("%d connections instead of %d: %s", state.number, before, reason)
        return state.number != before
