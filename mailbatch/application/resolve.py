"""Settle a doubt by hand: the recipient, or the relay's log, told that the mail went out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.errors import NotFound, StateConflict

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.operating_ports import Interventions


@dataclass(frozen=True, slots=True)
class ResolveSent:
    """Take a reservation in doubt for sent; to send it once more, requeue it instead."""

    interventions: Interventions

    def __call__(self, reservation_id: UUID) -> None:
        """Resolve it. Raises ``NotFound``, or ``StateConflict`` if it is not in doubt."""
        answer = self.interventions.resolve_sent(reservation_id)
        if answer.changed:
            return
        if answer.status is None:
            raise NotFound(f"no reservation {reservation_id}")
        raise StateConflict(f"reservation {reservation_id} is {answer.status.value}, not in_doubt; nothing to resolve")
