"""Faults of a relay in a row: when they are enough to say that it is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.ports.system import Clock


class ConsecutiveFailures:
    """Counts what goes wrong since the relay last answered a mail.

    ``most`` faults are enough, and so are fewer that go on for ``patience`` seconds; but not if all of them happened in
    the dialogue of one mail, which may be what breaks it. ``most_doubts`` is how many mails may be left without a
    verdict: as many as a crash leaves.
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

    def answered(self) -> None:
        """The relay answered: the row has ended."""
        self._since, self._faults, self._doubts = None, 0, 0
        self._suspects.clear()

    def fault(self, suspect: UUID | None = None) -> bool:
        """Count one fault more, in the dialogue of the mail ``suspect``; whether the relay is away."""
        self._faults += 1
        self._suspects.add(suspect)
        lasts = self._lasts()
        is_its_own = suspect is not None and self._suspects == {suspect}
        return self._faults >= self._most or (lasts and not is_its_own)

    def doubt(self) -> bool:
        """Count one mail more to whose end the relay said nothing; whether the relay is away."""
        self._doubts += 1
        self._suspects.add(None)
        lasts = self._lasts()
        return self._doubts >= self._most_doubts or lasts

    def _lasts(self) -> bool:
        now = self._clock.monotonic()
        self._since = now if self._since is None else self._since
        return now - self._since >= self._patience
