"""The places for connections to one relay. A place stays empty for a while after a fault, for longer each time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from mailbatch.domain.outcome import RelayFault
from mailbatch.domain.reply_kinds import Concern, concern_of
from mailbatch.infrastructure.smtp.connection_state import State
from mailbatch.infrastructure.smtp.errors import NoSlot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.outcome import Outcome
    from mailbatch.infrastructure.smtp.dialogue.base import Dialogue
    from mailbatch.infrastructure.smtp.errors import RelayError

CONNECTIONS = "connections"
"""The name of the limit on their number in ``domain/reply_kinds.py``."""
NO_SLOT_PAUSE = 0.5
"""Seconds before another connection is tried, when the connection limit of the relay is reached."""


class Backoff:
    """Seconds to wait after a fault, doubled each time, until something works."""

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = self._next = first
        self._longest = longest

    def pause(self) -> float:
        """Return the seconds to wait now."""
        pause = self._next
        self._next = min(pause * 2, self._longest)
        return pause

    def reset(self) -> None:
        """Begin again with the first pause, because it works now."""
        self._next = self._first


class Occupant(Protocol):
    """A connection, as far as a place looks at it."""

    @property
    def state(self) -> State:
        """Whether it is open."""


C = TypeVar("C", bound=Occupant)


class Place(Generic[C]):
    """Has at most one ``connection``. A connection that only waits for the reply to QUIT needs no place any more."""

    def __init__(self) -> None:
        self.connection: C | None = None
        self.rests_until = 0.0
        """The time before which no connection is opened here, on the monotonic clock."""
        self._after_fault = Backoff()
        self._after_limit = Backoff(1.0, 30.0)

    def works(self) -> None:
        """Note that a mail was answered."""
        self._after_fault.reset()

    def rest_unopened(self, error: RelayError) -> None:
        """Open nothing for a while, because the connection could not be opened."""
        if isinstance(error, NoSlot):
            self._rest(NO_SLOT_PAUSE)
        elif error.reply is not None and concern_of(error.reply) is Concern.CONNECTION:
            self._rest(self._after_limit.pause())
        else:
            self._rest(self._after_fault.pause())

    def rest_after_loss(self, dialogue: Dialogue, outcomes: Sequence[Outcome]) -> None:
        """Open nothing for a while, if a limit on connections or a fault of the relay ended the connection.

        If the connection had only carried as many mails as it may, the next one may be opened at once.
        """
        limit = dialogue.limit
        if limit is not None and (limit.name == CONNECTIONS or not dialogue.mails_answered):
            self._rest(self._after_limit.pause())
        elif any(isinstance(one, RelayFault) for one in outcomes) or (outcomes and not dialogue.mails_answered):
            self._rest(self._after_fault.pause())

    def _rest(self, seconds: float) -> None:
        self.rests_until = time.monotonic() + seconds


class Places(Generic[C]):
    """The places of one relay: one for each connection that it may have. ``allow`` changes their number."""

    def __init__(self, count: int) -> None:
        self._places: list[Place[C]] = [Place() for _ in range(count)]
        self._allowed = count
        self.has_connected = False
        """Whether a connection was opened once. Until then one place is used, so a refused password is tried once."""

    def free(self) -> list[Place[C]]:
        """Return the places in which a connection may be opened now."""
        now = time.monotonic()
        places = self._places if self.has_connected else self._places[:1]
        free = [place for place in places if place.connection is None and place.rests_until <= now]
        # Above the allowed number a place that rests holds back another one that could be used for it.
        return free[: max(0, self._allowed - len(places) + len(free))] if self._allowed < len(places) else free

    def allow(self, count: int) -> None:
        """Open no more than ``count`` connections from now on. If there are more, they stay."""
        self._places += [Place() for _ in range(count - len(self._places))]
        self._allowed = count

    def connecting(self) -> list[C]:
        """Return the connections that are being opened, or are open and not yet taken over."""
        held = [place.connection for place in self._places if place.connection is not None]
        return [one for one in held if one.state is not State.OPEN]

    def resting(self, now: float) -> list[float]:
        """Return when each place that rests may be used again."""
        return [place.rests_until for place in self._places if place.rests_until > now]

    def end_rests(self) -> None:
        """End all rests: connections may be opened in all places."""
        for place in self._places:
            place.rests_until = 0.0
