"""Measure the figures of a monitoring system, all of them from what runs have written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.reports import Measures, Reports
    from mailbatch.domain.census import Census
    from mailbatch.domain.figures import Figures


@dataclass(frozen=True, slots=True)
class Measure:
    """Measure: a census of the reservations, the figures of the runs, and for how long the relay has been silent.

    ``unanswered``: see ``health.unanswered``.
    """

    reports: Reports
    measures: Measures
    unanswered: Callable[[], float | None]

    def __call__(self) -> tuple[Census, Figures, float | None]:
        """Return all three. May raise ``StoreError``."""
        return self.reports.census(), self.measures.figures(), self.unanswered()
