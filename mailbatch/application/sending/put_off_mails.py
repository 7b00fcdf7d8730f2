"""Mails that a lane puts off because something that they share is away: a folder, or the temporary file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.domain.settlement import AWAY_FOR, put_off

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mailbatch.application.ports.system import Clock
    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Verdict
    from mailbatch.domain.settlement import Settlement


@dataclass(slots=True, kw_only=True)
class PutOffMails:
    """Settles these mails, so that each is claimed once in a run, however long the run takes.

    ``note_fault`` notes a fault of the run that does not end it.
    """

    clock: Clock
    note_fault: Callable[[str], None]
    _since: float | None = field(default=None, init=False)

    def settle(self, claim: Claim, errors: Sequence[str], earlier: Mapping[str, Verdict]) -> Settlement:
        """Return the settlement of a mail that waits because of ``errors``. It is the run's fault, not the mail's."""
        self.note_fault(errors[0])
        if self._since is None:
            self._since = self.clock.monotonic()
        return put_off(claim, errors, earlier)

    @property
    def due_again_for(self) -> float:
        """Seconds for which the first of these mails is due again; 0 if none is.

        What the run claimed before and is due again for no longer waits for the next run. Otherwise a run with so many
        mails that the first are due again before the last is put off would never end.
        """
        if self._since is None:
            return 0.0
        return max(0.0, self.clock.monotonic() - self._since - AWAY_FOR)
