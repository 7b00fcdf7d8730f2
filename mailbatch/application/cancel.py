"""Take reservations back before they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from mailbatch.application.operating_ports import Answer, Changed, Interventions


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel single reservations. What was answered as cancelled is never sent."""

    interventions: Interventions

    def __call__(self, ids: Sequence[UUID]) -> list[Answer]:
        """Cancel those of ``ids`` that are still pending; an answer for each, in order."""
        return self.interventions.cancel(ids)


@dataclass(frozen=True, slots=True)
class CancelTagged:
    """Cancel a whole campaign."""

    interventions: Interventions

    def __call__(self, tag: str) -> Changed:
        """Cancel all that are still pending under ``tag``."""
        return self.interventions.cancel_tagged(tag)
