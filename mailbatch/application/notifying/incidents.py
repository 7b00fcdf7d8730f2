"""Notify people of what the watch finds and no run can report: once an incident, from any living process."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.errors import NotDelivered
from mailbatch.domain.finding import RELAY_REFUSES, RUN_DIED, Level

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailbatch.application.ports.notifying import Channel, Incidents
    from mailbatch.domain.finding import Finding
    from mailbatch.domain.incident import Incident

log = logging.getLogger(__name__)

TOLD_BY_RUNS = frozenset({RUN_DIED, RELAY_REFUSES})
"""Findings that the report of the run contains which met them."""


@dataclass(frozen=True, slots=True)
class NotifyOfIncidents:
    """Record which incidents there are, and notify people of the new ones."""

    incidents: Incidents
    channels: Mapping[str, Channel]

    def __call__(self, findings: Sequence[Finding]) -> None:
        """Take what the watch has just found. Raises ``StoreError``."""
        found = [one for one in findings if one.level is Level.ERROR and one.name not in TOLD_BY_RUNS]
        self.incidents.note(found, self.channels)
        for one in self.incidents.take(self.channels):
            self._tell(one)

    def _tell(self, one: Incident) -> None:
        try:
            self.channels[one.channel](one.id, one.as_dict())
        except NotDelivered as error:
            again = "it is given up" if error.final else "it is tried again while it lasts"
            log.warning("the incident %s could not be reported by %s: %s; %s", one.kind, one.channel, error, again)
            if error.final:
                self.incidents.give_up(one)
        else:
            self.incidents.delivered(one)
            log.info("the incident %s was reported by %s", one.kind, one.channel)
