"""Measure: the figures by which a monitoring system sees how things stand, all of them from what runs have written."""

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
    """Measure how things stand: a census of the reservations, the figures of the runs, and whether mails are answered.

    ``unanswered``: see ``watch.unanswered``.
    """

    reports: Reports
    measures: Measures
    unanswered: Callable[[], float | None]

    def __call__(self) -> tuple[Census, Figures, float | None]:
        """Return all three. May raise ``StoreError``."""
        return self.reports.census(), self.measures.figures(), self.unanswered()
