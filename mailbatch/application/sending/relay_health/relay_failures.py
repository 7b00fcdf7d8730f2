"""Counts a relay's failures in a row, and decides when they are enough to count the relay as away."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.ports.system import Clock


class ConsecutiveFailures:
    """Counts the failures since the relay last answered a mail.

    The relay is away after ``most`` faults. Fewer are enough if they go on for ``patience`` seconds, unless all of them
    happened in the dialogue of one mail, which may be their cause. The relay is also away after ``most_doubts`` mails
    to whose end it did not reply: one crash of it can leave so many.
    """

    def __init__(self, clock: Clock, *, most: int, patience: float, most_doubts: int) -> None:
        self._clock = clock
        self._most = most
        self._patience = patience
        self._most_doubts = most_doubts
        self._since: float | None = None
        self._faults = 0
        self._doubts = 0
        self._suspects: set[UUID | None] = set()

    def reset(self) -> None:
        """Forget the failures, because the relay answered."""
        if self._since is not None:
            self._since, self._faults, self._doubts = None, 0, 0
            self._suspects.clear()

    def fault(self, suspect: UUID | None = None) -> bool:
        """Count a fault, in the dialogue of the mail ``suspect`` if it is given. Return whether the relay is away."""
        self._faults += 1
        self._suspects.add(suspect)
        lasts = self._lasts()
        is_of_one_mail = suspect is not None and self._suspects == {suspect}
        return self._faults >= self._most or (lasts and not is_of_one_mail)

    def doubt(self) -> bool:
        """Count a mail that was sent to its end, and to which no reply came. Return whether the relay is away."""
        self._doubts += 1
        self._suspects.add(None)
        lasts = self._lasts()
        return self._doubts >= self._most_doubts or lasts

    def _lasts(self) -> bool:
        now = self._clock.monotonic()
        self._since = now if self._since is None else self._since
        return now - self._since >= self._patience
