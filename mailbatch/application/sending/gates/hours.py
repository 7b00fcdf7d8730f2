"""The gate of sending hours: some mails go only in their windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.gate import NotBefore
from mailbatch.domain.sending_hours import not_before

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.message import Claim
    from mailbatch.domain.sending_hours import Window
    from mailbatch.domain.traits import Traits

REASON = "its sending hours have not begun"


@dataclass(frozen=True, slots=True)
class SendingHours:
    """The port ``Gate``: a mail waits until the next of the ``windows`` that are for it.

    ``traits`` reads from a mail what a window looks at.
    """

    windows: Sequence[Window]
    traits: Callable[[ClaimedMail], Traits]

    def ask(self, mails: Sequence[ClaimedMail], now: datetime) -> Mapping[Claim, NotBefore]:
        """Return the mails that are outside of their hours; see the port."""
        opens = {mail.claim: not_before(self.windows, self.traits(mail), now) for mail in mails}
        return {claim: NotBefore(at, REASON) for claim, at in opens.items() if at is not None}

    def reopen(self, limit: int) -> int:  # noqa: ARG002 - port
        """Return 0: each mail has its time."""
        return 0
