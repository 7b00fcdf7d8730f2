"""Take reservations back before they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbatch.application.ports.stores import Interventions
    from mailbatch.domain.change import Changed


@dataclass(frozen=True, slots=True)
class CancelTagged:
    """Cancel a whole campaign."""

    interventions: Interventions

    def __call__(self, tag: str) -> Changed:
        """Cancel all that are still pending under ``tag``."""
        return self.interventions.cancel_tagged(tag)
